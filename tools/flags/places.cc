#include "tools/flags/places.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr char kModel[] = "models/abacus";

}  // namespace

absl::StatusOr<std::string> BundledModelDir() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path beside = program.string() + ".runfiles/orrery";
  for (const fs::path& root : {beside, fs::path(".")}) {
    // Through the links that Bazel makes of single files, to the folder in the sources.
    const fs::path config = fs::canonical(root / kModel / "config.json", error);
    if (!error) return config.parent_path().string();
  }
  return absl::NotFoundError(absl::StrCat("the bundled model is neither in ",
                                          (beside / kModel).string(), " nor in ./", kModel,
                                          "; say --model=DIR"));
}

std::string RouterAddressFile() {
  const fs::path name = fs::path(".orrery") / "router";
  const absl::StatusOr<std::string> model = BundledModelDir();
  if (!model.ok()) return name.string();
  const fs::path root = fs::path(*model).parent_path().parent_path();
  std::error_code error;
  return fs::exists(root / "WORKSPACE", error) ? (root / name).string() : name.string();
}

}  // namespace orrery
