#include "tools/bench/kernels/make_target.h"

#include "absl/strings/str_cat.h"
#ifdef ORRERY_CUDA
#include "tools/bench/kernels/cuda/cublaslt.h"
#include "tools/bench/kernels/cuda/cuda_target.h"
#endif

namespace orrery {
namespace {

absl::StatusOr<std::unique_ptr<BenchTarget>> MakeGpuTarget(const CpuTargetOptions& options) {
#ifdef ORRERY_CUDA
  return MakeCudaTarget({.working_set_bytes = options.working_set_bytes, .gemms = OpenCublasLt()});
#else
  return absl::FailedPreconditionError(
      "this program was built without CUDA: build it with --config=cuda");
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<BenchTarget>> MakeTarget(const std::string& device,
                                                        const CpuTargetOptions& options) {
  if (device == "cpu") return MakeCpuTarget(options);
  if (device == "cuda") return MakeGpuTarget(options);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown device \"", device, "\": want cpu or cuda"));
}

}  // namespace orrery
