#include "kernels/factory/make_kernels.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/reference/reference_kernels.h"

namespace orrery {

absl::StatusOr<Backend> ParseBackend(std::string_view name) {
  if (name == "cpu") return Backend::kCpu;
  if (name == "reference") return Backend::kReference;
  return absl::InvalidArgumentError(
      absl::StrCat("unknown backend \"", std::string(name), "\": want cpu or reference"));
}

absl::StatusOr<std::unique_ptr<Kernels>> MakeKernels(Backend backend, CpuVariant variant,
                                                     Stream* stream, const CpuThreads& threads) {
  switch (backend) {
    case Backend::kCpu:
      return MakeCpuKernels(variant, threads);
    case Backend::kReference:
      return MakeReferenceKernels();
  }
  return absl::InvalidArgumentError(absl::StrCat("backend ", static_cast<int>(backend)));
}

}  // namespace orrery
