#include "kernels/factory/make_kernels.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "device/host/host_device.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/reference/reference_kernels.h"
#ifdef ORRERY_CUDA
#include "device/cuda/cuda_device.h"
#include "kernels/cuda/make_cuda_kernels.h"
#endif

namespace orrery {
#ifndef ORRERY_CUDA
namespace {

absl::Status BuiltWithoutCuda() {
  return absl::FailedPreconditionError(
      "this program was built without CUDA: build it with --config=cuda");
}
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int) { return BuiltWithoutCuda(); }
absl::StatusOr<std::unique_ptr<Kernels>> MakeCudaKernels(Stream*) { return BuiltWithoutCuda(); }

}  // namespace
#endif

absl::StatusOr<Backend> ParseBackend(std::string_view name) {
  if (name == "cpu") return Backend::kCpu;
  if (name == "reference") return Backend::kReference;
  if (name == "cuda") return Backend::kCuda;
  return absl::InvalidArgumentError(
      absl::StrCat("unknown backend \"", std::string(name), "\": want cpu, reference or cuda"));
}

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(Backend backend, int gpu) {
  if (backend == Backend::kCuda) return MakeCudaDevice(gpu);
  return MakeHostDevice();
}

absl::StatusOr<std::unique_ptr<Kernels>> MakeKernels(Backend backend, CpuVariant variant,
                                                     Stream* stream, const CpuThreads& threads) {
  switch (backend) {
    case Backend::kCpu:
      return MakeCpuKernels(variant, threads);
    case Backend::kReference:
      return MakeReferenceKernels();
    case Backend::kCuda:
      return MakeCudaKernels(stream);
  }
  return absl::InvalidArgumentError(absl::StrCat("backend ", static_cast<int>(backend)));
}

}  // namespace orrery
