#include "kernels/conformance/host_implementations.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "kernels/factory/make_kernels.h"

namespace orrery {
namespace {

Implementation Of(std::string name, Backend backend, CpuVariant variant, int num_threads = 1) {
  return {std::move(name),
          [=] { return MakeKernels(backend, variant, nullptr, {.num_threads = num_threads}); }};
}

}  // namespace

std::vector<Implementation> X86Variants() {
  std::vector<Implementation> present;
  for (const char* name : {"scalar", "avx2", "avx512", "avx512bf16", "amx-model", "amx"}) {
    const Implementation variant = Of(absl::StrReplaceAll(absl::StrCat("x86_", name), {{"-", "_"}}),
                                      Backend::kCpu, *ParseCpuVariant(name));
    if (variant.make().ok()) present.push_back(variant);
  }
  present.push_back(Of("x86_best_with_three_threads", Backend::kCpu, CpuVariant::kBest, 3));
  return present;
}

std::vector<Implementation> AllImplementations() {
  std::vector<Implementation> all = {Of("reference", Backend::kReference, CpuVariant::kBest)};
  for (const Implementation& variant : X86Variants()) all.push_back(variant);
  return all;
}

}  // namespace orrery
