"""Kernels for NVIDIA GPUs, compiled by the toolkit's nvcc, with --config=cuda only."""

# For target_compatible_with: without --config=cuda such targets are incompatible, and wildcards skip them.
CUDA_ONLY = select({
    "//third_party/cuda:cuda": [],
    "//conditions:default": ["@platforms//:incompatible"],
})

# Tags of tests that run on a GPU. `./orrery test` compiles and links them with --config=cuda wherever the toolkit is;
# without a GPU they say that they were skipped.
GPU_TEST = [
    "gpu",
    "manual",
]

# sm_80: A100; sm_86: gaming cards; sm_90a: H100, H200; PTX of sm_80 for what comes between and after.
_ARCHITECTURES = [
    "-gencode=arch=compute_80,code=[compute_80,sm_80]",
    "-gencode=arch=compute_86,code=sm_86",
    "-gencode=arch=compute_90a,code=sm_90a",
]

# Bits must not depend on the compiler: fused multiply-adds only where the source says fmaf, on both sides;
# denormals flushed, as kernels.h has it.
_NVCC_OPTIONS = [
    "-x",
    "cu",
    "-std=c++20",
    "-O3",
    "--expt-relaxed-constexpr",
    "--fmad=false",
    "-ftz=true",
    "-prec-div=true",
    "-prec-sqrt=true",
    "-Xcompiler=-O2,-ffp-contract=off",
    # Takes an assignment from a function that returns absl::Status for a call that ignores it.
    "-diag-suppress=2810",
]

def _cuda_objects_impl(ctx):
    context = cc_common.merge_cc_infos(
        cc_infos = [dep[CcInfo] for dep in ctx.attr.deps],
    ).compilation_context
    folders = context.quote_includes.to_list() + context.includes.to_list()
    system_folders = context.system_includes.to_list()
    objects = []
    for src in ctx.files.srcs:
        out = ctx.actions.declare_file(src.basename[:-len(".cc")] + ".o")
        ctx.actions.run(
            executable = "/usr/local/cuda/bin/nvcc",
            arguments = _ARCHITECTURES + _NVCC_OPTIONS +
                        ["-I" + folder for folder in folders] +
                        ["-isystem=" + folder for folder in system_folders] +
                        ["-c", src.path, "-o", out.path],
            inputs = depset([src] + ctx.files.hdrs, transitive = [context.headers]),
            outputs = [out],
            env = {"PATH": "/usr/local/cuda/bin:/usr/bin:/bin"},
            mnemonic = "CudaCompile",
            progress_message = "Compiling %s with nvcc" % src.short_path,
        )
        objects.append(out)
    return [DefaultInfo(files = depset(objects))]

# One object for each .cu.cc file, for the srcs of a cc_library.
cuda_objects = rule(
    implementation = _cuda_objects_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".cu.cc"]),
        "hdrs": attr.label_list(allow_files = [".h"]),
        "deps": attr.label_list(providers = [CcInfo]),
    },
)
