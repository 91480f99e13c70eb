#include "model/weight_files.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/log.h"
#include "checkpoint/file.h"
#include "checkpoint/store/record_hash.h"
#include "model/checkpoint_loader.h"
#include "model/store_loader.h"

namespace orrery {
namespace {

constexpr char kPackedDir[] = "packed";

absl::StatusOr<std::string> ConfigHash(const std::string& model_dir) {
  ASSIGN_OR_RETURN(const std::string text,
                   ReadFile(JoinPath(model_dir, "config.json"), kMaxConfigBytes));
  return ContentHash(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
}

// There is no store for these numerics; is there something that was meant to be one?
void WarnOfOtherStores(const std::string& model_dir, const std::string& store_dir) {
  if (FileExists(JoinPath(store_dir, kJournalFile))) {
    LogWarning("the packed store ", store_dir, " was not finished; loading from the checkpoint. ",
               "`orrery pack` goes on with it");
    return;
  }
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(JoinPath(model_dir, kPackedDir), error)) {
    if (!HasPackedStore(entry.path())) continue;
    LogWarning("there is a packed store for other numerics, ", entry.path().string(),
               ", but none at ", store_dir,
               "; loading from the checkpoint. `orrery pack` makes one");
  }
}

}  // namespace

std::string PackedStoreDir(const std::string& model_dir, const std::string& numerics_id) {
  return JoinPath(JoinPath(model_dir, kPackedDir),
                  absl::StrReplaceAll(numerics_id, {{" ", "_"}, {"=", "-"}, {"/", "-"}}));
}

absl::StatusOr<StoreIdentity> ModelIdentity(const std::string& model_dir,
                                            const Checkpoint& checkpoint,
                                            const std::string& numerics_id) {
  StoreIdentity identity;
  identity.numerics_id = numerics_id;
  ASSIGN_OR_RETURN(identity.config_hash, ConfigHash(model_dir));
  for (const std::string& file : checkpoint.files()) {
    ASSIGN_OR_RETURN(identity.sources[file], SampleHash(JoinPath(model_dir, file)));
  }
  return identity;
}

absl::Status CheckPackedStore(const PackedStore& store, const std::string& model_dir,
                              const std::string& numerics_id) {
  const StoreIdentity& identity = store.identity();
  const auto refuse = [&](const std::string& why) {
    return absl::FailedPreconditionError(absl::StrCat("the packed store ", store.dir(), " ", why,
                                                      "; remove it, or run `orrery pack` again"));
  };
  if (identity.numerics_id != numerics_id) {
    return refuse(absl::StrCat("is for numerics \"", identity.numerics_id,
                               "\", this member's are \"", numerics_id, "\""));
  }
  ASSIGN_OR_RETURN(const std::string config_hash, ConfigHash(model_dir));
  if (identity.config_hash != config_hash) {
    return refuse(absl::StrCat("was made from a config.json with content hash ",
                               identity.config_hash, ", that of ", model_dir, " has ",
                               config_hash));
  }
  for (const auto& [file, sample] : identity.sources) {
    const std::string path = JoinPath(model_dir, file);
    if (!FileExists(path)) continue;
    ASSIGN_OR_RETURN(const std::string now, SampleHash(path));
    if (now != sample) {
      return refuse(absl::StrCat("was made from a ", file, " with sample hash ", sample, ", ", path,
                                 " has ", now));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<WeightFiles> WeightFiles::Open(const std::string& model_dir,
                                              const std::string& numerics_id) {
  const std::string store_dir = PackedStoreDir(model_dir, numerics_id);
  if (!HasPackedStore(store_dir)) {
    WarnOfOtherStores(model_dir, store_dir);
    return OpenCheckpoint(model_dir);
  }
  ASSIGN_OR_RETURN(PackedStore store, PackedStore::Open(store_dir));
  RETURN_IF_ERROR(CheckPackedStore(store, model_dir, numerics_id));
  WeightFiles files(model_dir);
  files.store_ = std::move(store);
  return files;
}

absl::StatusOr<WeightFiles> WeightFiles::OpenCheckpoint(const std::string& model_dir) {
  WeightFiles files(model_dir);
  ASSIGN_OR_RETURN(files.checkpoint_, Checkpoint::Open(model_dir));
  return files;
}

std::string WeightFiles::Describe() const {
  return store_.has_value() ? absl::StrCat("packed store ", store_->dir())
                            : absl::StrCat("checkpoint ", model_dir_);
}

std::vector<std::string> WeightFiles::MissingFiles() const {
  std::vector<std::string> missing;
  if (store_.has_value()) return missing;
  for (const std::string& file : checkpoint_->files()) {
    if (!FileExists(JoinPath(model_dir_, file))) missing.push_back(file);
  }
  return missing;
}

ItemBytes WeightFiles::item_bytes(const ModelConfig& config, const Numerics& numerics,
                                  const Kernels& kernels) const {
  if (store_.has_value()) {
    return [this](const WeightItem& item) { return StoredItemBytes(*store_, item); };
  }
  const auto stored = [this, by_config = StoredBy(config)](const WeightItem& item) {
    // A tensor that is missing is an error of the loading, which says more.
    const absl::StatusOr<DType> dtype = checkpoint_->DTypeOf(item.name);
    return dtype.ok() ? *dtype : by_config(item);
  };
  return BytesOf(config, stored, numerics, kernels);
}

std::unique_ptr<WeightLoader> WeightFiles::MakeLoader(const ModelConfig* config, Kernels* kernels,
                                                      Device* device, const Numerics& numerics,
                                                      std::atomic<int64_t>* loaded_bytes) const {
  if (store_.has_value()) {
    return std::make_unique<StoreLoader>(&*store_, kernels, device, loaded_bytes);
  }
  return std::make_unique<CheckpointLoader>(&*checkpoint_, config, kernels, device, numerics,
                                            loaded_bytes);
}

absl::StatusOr<Fingerprint> WeightFiles::ComputeFingerprint(FingerprintScope scope) const {
  if (!store_.has_value()) return checkpoint_->ComputeFingerprint(scope);
  return Fingerprint{.config_hash = store_->identity().config_hash,
                     .files = store_->index().file_hashes};
}

}  // namespace orrery
