#include "checkpoint/checkpoint.h"

#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "checkpoint/file.h"
#include "checkpoint/json.h"
#include "checkpoint/value_check.h"

namespace orrery {
namespace {

constexpr char kSingleFile[] = "model.safetensors";

// A weights file: opened by the first tensor that is asked of it, hashed by the first fingerprint
// after that.
struct Shard {
  // Not absl::Mutex: Debian's Abseil is built without annotations for ThreadSanitizer, which
  // therefore cannot check what such a lock guards.
  std::mutex mutex;
  std::unique_ptr<SafetensorsFile> file;  // guarded by mutex
  std::string hash;                       // guarded by mutex
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// An index names files beside it; one that climbs out of its directory is not from a model.
bool StaysInDirectory(const std::string& file) {
  if (file.empty() || file[0] == '/' || file.find('\0') != std::string::npos) return false;
  for (const auto part : absl::StrSplit(file, '/')) {
    if (part == ".." || part.empty()) return false;
  }
  return true;
}

// weight_map: tensor -> file.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  ASSIGN_OR_RETURN(const Json root, ParseJson(text, path));
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": weight_map is missing, or not an object"));
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : root["weight_map"].items()) {
    if (!file.is_string() || !StaysInDirectory(file.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": weight_map: ", tensor, " is ", JsonText(file),
                       ": must name a file in the model's directory"));
    }
    files[tensor] = file.get<std::string>();
  }
  return files;
}

}  // namespace

struct Checkpoint::Impl {
  std::string directory;
  std::map<std::string, std::string> file_of_tensor;
  std::map<std::string, Shard> shards;  // By file name; the map itself never changes after Open().

  absl::StatusOr<std::string> FileOf(const std::string& name) const;
  // The tensor as its file has it.
  absl::StatusOr<TensorView> Find(const std::string& name, const std::string& file_name);
};

absl::StatusOr<std::string> Checkpoint::Impl::FileOf(const std::string& name) const {
  const auto file = file_of_tensor.find(name);
  if (file != file_of_tensor.end()) return file->second;
  return absl::NotFoundError(
      absl::StrCat("tensor ", name, " is not in the checkpoint ", directory));
}

absl::StatusOr<TensorView> Checkpoint::Impl::Find(const std::string& name,
                                                  const std::string& file_name) {
  Shard& shard = shards.at(file_name);
  const std::lock_guard<std::mutex> lock(shard.mutex);
  if (shard.file == nullptr) {
    auto file = SafetensorsFile::Open(JoinPath(directory, file_name));
    if (!file.ok()) {
      return absl::Status(file.status().code(),
                          absl::StrCat("tensor ", name, ": ", file.status().message()));
    }
    shard.file = *std::move(file);
  }
  const auto found = shard.file->tensors().find(name);
  if (found != shard.file->tensors().end()) return found->second;
  const auto unreadable = shard.file->unreadable_tensors().find(name);
  if (unreadable != shard.file->unreadable_tensors().end()) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " in ", shard.file->path(),
                                                   " is of dtype ", unreadable->second,
                                                   "; we read F32, BF16, F16 and F8_E4M3"));
  }
  return absl::NotFoundError(absl::StrCat("tensor ", name, " is not in ", shard.file->path(),
                                          ", where the index says it is"));
}

Checkpoint::Checkpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& model_dir) {
  auto impl = std::make_unique<Impl>();
  impl->directory = model_dir;
  const std::string single = JoinPath(model_dir, kSingleFile);
  const std::string index = JoinPath(model_dir, kTensorIndexFile);
  if (FileExists(single)) {
    ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(single));
    for (const auto& [name, tensor] : file->tensors()) impl->file_of_tensor[name] = kSingleFile;
    for (const auto& [name, dtype] : file->unreadable_tensors()) {
      impl->file_of_tensor[name] = kSingleFile;
    }
    Shard& shard = impl->shards[kSingleFile];
    const std::lock_guard<std::mutex> lock(shard.mutex);
    shard.file = std::move(file);
  } else if (FileExists(index)) {
    ASSIGN_OR_RETURN(impl->file_of_tensor, ReadIndex(index));
    for (const auto& [name, file] : impl->file_of_tensor) impl->shards[file];
  } else {
    return absl::NotFoundError(
        absl::StrCat(model_dir, " has neither ", kSingleFile, " nor ", kTensorIndexFile));
  }
  return Checkpoint(std::move(impl));
}

bool Checkpoint::Has(const std::string& name) const {
  return impl_->file_of_tensor.find(name) != impl_->file_of_tensor.end();
}

std::vector<std::string> Checkpoint::files() const {
  std::vector<std::string> names;
  for (const auto& [name, shard] : impl_->shards) names.push_back(name);
  return names;
}

absl::StatusOr<DType> Checkpoint::DTypeOf(const std::string& name) const {
  ASSIGN_OR_RETURN(const std::string file, impl_->FileOf(name));
  ASSIGN_OR_RETURN(const TensorView tensor, impl_->Find(name, file));
  return tensor.dtype;
}

absl::StatusOr<TensorView> Checkpoint::Tensor(const std::string& name,
                                              const std::vector<int64_t>& shape) const {
  ASSIGN_OR_RETURN(const std::string file, impl_->FileOf(name));
  ASSIGN_OR_RETURN(TensorView tensor, impl_->Find(name, file));
  const std::string path = JoinPath(impl_->directory, file);
  if (tensor.shape != shape) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", name, " in ", path, " has shape ", ShapeText(tensor.shape),
                     "; the configuration asks for ", ShapeText(shape)));
  }
  if (const std::optional<int64_t> index = FindNonFinite(tensor)) {
    return absl::DataLossError(absl::StrCat("tensor ", name, " in ", path, ": value ", *index,
                                            " is not a number, or infinite"));
  }
  return tensor;
}

absl::StatusOr<Fingerprint> Checkpoint::ComputeFingerprint(FingerprintScope scope) const {
  Fingerprint fingerprint;
  ASSIGN_OR_RETURN(const std::string config,
                   ReadFile(JoinPath(impl_->directory, "config.json"), kMaxConfigBytes));
  fingerprint.config_hash =
      ContentHash({reinterpret_cast<const std::byte*>(config.data()), config.size()});
  for (auto& [name, shard] : impl_->shards) {
    const std::lock_guard<std::mutex> lock(shard.mutex);
    if (shard.file != nullptr) {
      if (shard.hash.empty()) shard.hash = ContentHash(shard.file->bytes());
      SafetensorsFile::Forget(shard.file->bytes());
    } else if (const std::string path = JoinPath(impl_->directory, name);
               scope == FingerprintScope::kPresentFiles && FileExists(path)) {
      ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(path));
      shard.hash = ContentHash(file->bytes());
    }
    if (!shard.hash.empty()) fingerprint.files[name] = shard.hash;
  }
  return fingerprint;
}

}  // namespace orrery
