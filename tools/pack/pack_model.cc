#include "tools/pack/pack_model.h"

#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/file.h"
#include "checkpoint/model_config.h"
#include "checkpoint/store/packed_store.h"
#include "checkpoint/store/store_reader.h"
#include "device/host/host_device.h"
#include "model/moe_layers.h"
#include "model/weight_files.h"
#include "services/attention/model.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

// What a model directory has beside its weights.
constexpr const char* kSmallFiles[] = {"config.json", "generation_config.json", "tokenizer.json",
                                       "tokenizer_config.json", "chat_template.jinja"};

absl::Status CopySmallFiles(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::create_directories(to, error);
  if (fs::equivalent(from, to, error)) return absl::OkStatus();
  for (const char* const name : kSmallFiles) {
    const std::string source = JoinPath(from, name), target = JoinPath(to, name);
    if (!FileExists(source)) continue;
    fs::copy_file(source, target, fs::copy_options::overwrite_existing, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat("cannot copy ", source, " to ", target, ": ", error.message()));
    }
  }
  return absl::OkStatus();
}

// Whether there is nothing to do.
bool IsUpToDate(const std::string& store_dir, const StoreIdentity& identity) {
  const absl::StatusOr<PackedStore> store = PackedStore::Open(store_dir);
  return store.ok() && store->identity() == identity;
}

absl::Status CheckRoom(const std::string& dir, const std::vector<WeightRecord>& records,
                       const ModelConfig& config) {
  int64_t num_bytes = 0;  // about, and rather less
  for (const WeightRecord& record : records) {
    num_bytes += record.num_values() * (config.weight_block_outputs > 0 ? 1 : 2) / 4;
  }
  std::error_code error;
  const fs::space_info space = fs::space(dir, error);
  if (error || space.available >= static_cast<uintmax_t>(num_bytes)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(dir, " has room for ", space.available,
                                                   " bytes; the store takes at least ", num_bytes));
}

}  // namespace

absl::StatusOr<std::vector<WeightRecord>> ListModel(const ModelConfig& config) {
  const std::unique_ptr<Device> device = MakeHostDevice();
  WeightLister lister;
  const ModelOptions options = {.numerics = {}, .max_positions = 1, .with_mtp = config.has_mtp()};
  RETURN_IF_ERROR(LoadModel(lister, config, options, device.get()).status());
  for (const int layer : MoeLayers(config, config.has_mtp())) {
    for (int expert = 0; expert < config.num_experts; ++expert) {
      RETURN_IF_ERROR(lister
                          .FeedForward(ExpertRecord(layer, expert), config.hidden_size,
                                       config.moe_intermediate_size)
                          .status());
    }
  }
  return lister.TakeRecords();
}

absl::StatusOr<PackedModel> PackModelDir(const PackModelOptions& options,
                                         const std::function<void(const PackProgress&)>& progress) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model_dir));
  ASSIGN_OR_RETURN(const std::vector<WeightRecord> records, ListModel(config));
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeDevice(options.backend));
  const std::unique_ptr<Stream> stream = device->MakeStream();
  const std::unique_ptr<Device> host = MakeHostDevice();  // for what is packed as it is
  const auto make_kernels = [&] {
    return MakeKernels(options.backend, options.cpu_variant, stream.get());
  };
  ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> kernels, make_kernels());
  const std::string numerics_id = NumericsId(options.numerics, kernels->family());
  const std::string out_dir = options.out_dir.empty() ? options.model_dir : options.out_dir;
  PackedModel packed = {.store_dir = PackedStoreDir(out_dir, numerics_id)};
  {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.model_dir));
    ASSIGN_OR_RETURN(const StoreIdentity identity,
                     ModelIdentity(options.model_dir, checkpoint, numerics_id));
    packed.was_there = IsUpToDate(packed.store_dir, identity);
  }
  RETURN_IF_ERROR(CopySmallFiles(options.model_dir, out_dir));
  if (!packed.was_there) {
    RETURN_IF_ERROR(CheckRoom(out_dir, records, config));
    RETURN_IF_ERROR(PackModel(records, config,
                              {.model_dir = options.model_dir,
                               .store_dir = packed.store_dir,
                               .numerics = options.numerics,
                               .numerics_id = numerics_id,
                               .num_threads = options.num_threads,
                               .make_kernels = make_kernels,
                               .device = host.get(),
                               .progress = progress}));
  }
  ASSIGN_OR_RETURN(const PackedStore store, PackedStore::Open(packed.store_dir));
  packed.num_bytes = store.num_bytes();
  return packed;
}

absl::Status VerifyPackedStore(const std::string& store_dir, std::atomic<int64_t>* num_bytes) {
  ASSIGN_OR_RETURN(const PackedStore store, PackedStore::Open(store_dir));
  std::vector<std::string> keys;
  for (const StoreRecord& record : store.index().records) keys.push_back(record.key);
  StoreReader reader(&store, keys, num_bytes);
  for (const std::string& key : keys) RETURN_IF_ERROR(reader.Take(key).status());
  return absl::OkStatus();
}

}  // namespace orrery
