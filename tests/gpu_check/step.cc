// A decode step of one layer of DeepSeek-R1 in two processes on one GPU, beside its roofline: attention here, the experts in
// the other one, rows by CUDA IPC.
#include "services/attention/step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "services/attention/expert_directory.h"
#include "services/attention/kv_cache.h"
#include "services/attention/model.h"
#include "tests/gpu_check/gpu.h"
#include "tests/gpu_check/parts.h"
#include "tests/gpu_check/shard_process.h"
#include "tools/bench/kernels/cuda/cublaslt.h"
#include "tools/bench/kernels/cuda/cuda_target.h"
#include "tools/bench/kernels/kernel_figures.h"
#include "tools/bench/kernels/synthetic.h"
#include "tools/bench/model/step_work.h"
#include "tools/bench/synthetic/synthetic_model.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

constexpr char kSuite[] = "Step";
constexpr absl::Duration kPatience = absl::Seconds(30);
// A shape of batch is seen, captured, and replayed from then on.
constexpr int kWarmUps = 3;
constexpr absl::Duration kCeilingTime = absl::Milliseconds(20);
// Of the GPU and of the disk, beside the weights.
constexpr int64_t kRoomBytes = int64_t{4} << 30;

struct Sizes {
  SyntheticShape shape;
  int context = 4096;  // tokens that each sequence has before the step
  std::vector<int> batches = {1, 8, 64};
  int num_rounds = 20;
  size_t copy_bytes = CudaTargetOptions().copy_bytes;
  int64_t room_bytes = kRoomBytes;
};

// For a stand-in: everything that the layer has, once and narrow.
Sizes SmallSizes() {
  Sizes sizes = {.shape = {.name = "small-layer",
                           .projections = DType::kFp8E4m3,
                           .hidden = 136,
                           .vocab_size = 40,
                           .max_positions = 256,
                           .num_layers = 1,
                           .dense_width = 40,
                           .expert_width = 40,
                           .num_experts = 8,
                           .num_experts_per_token = 3,
                           .num_shared_experts = 1,
                           .num_groups = 4,
                           .num_kept_groups = 2,
                           .num_heads = 2,
                           .q_lora_rank = 20,
                           .kv_lora_rank = 32,
                           .nope_dim = 16,
                           .rope_dim = 16,
                           .value_dim = 16},
                 .context = 70,
                 .batches = {2},
                 .num_rounds = 1,
                 .copy_bytes = 16 << 10,
                 .room_bytes = 0};
  return sizes;
}

// A model on the disk while it is needed.
class ModelOnDisk {
 public:
  explicit ModelOnDisk(fs::path dir) : dir_(std::move(dir)) {}
  ~ModelOnDisk() {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  ModelOnDisk(const ModelOnDisk&) = delete;
  ModelOnDisk& operator=(const ModelOnDisk&) = delete;
  absl::Status Write(const SyntheticShape& shape) { return WriteSyntheticModel(shape, dir()); }
  std::string dir() const { return dir_.string(); }

 private:
  const fs::path dir_;
};

// The rank, and its shard in the other process.
class Rank {
 public:
  static absl::StatusOr<std::unique_ptr<Rank>> Open(const std::string& model_dir,
                                                    const Sizes& sizes) {
    std::unique_ptr<Rank> rank(new Rank(&sizes));
    const ShardAsked asked = {.name = UniqueShardName(), .model_dir = model_dir};
    ASSIGN_OR_RETURN(rank->shard_, StartShard(asked));
    ASSIGN_OR_RETURN(rank->gpu_, Gpu::Open());
    RETURN_IF_ERROR(rank->Load(model_dir));
    ASSIGN_OR_RETURN(rank->layer_, MakeIpcLayer());
    ASSIGN_OR_RETURN(
        rank->exchange_,
        MakeIpcRank(asked.name, RowsOf(rank->model_.config, rank->gpu_.kernels->family()),
                    rank->layer_.get()));
    RETURN_IF_ERROR(AwaitIpc(*rank->exchange_, *rank->shard_));
    RETURN_IF_ERROR(rank->MakeStep());
    RETURN_IF_ERROR(rank->FillCache());
    return rank;
  }

  const ModelConfig& config() const { return model_.config; }
  std::string carrier() const { return std::string(exchange_->carrier(0)); }

  // One step of so many sequences.
  absl::StatusOr<double> SecondsOf(int num_sequences) {
    Batch batch;
    batch.expert_timeout = kPatience;
    for (int i = 0; i < num_sequences; ++i) {
      batch.ids.push_back(i % model_.config.vocab_size);
      batch.spans.push_back({.row_begin = i,
                             .num_rows = 1,
                             .first_position = sizes_.context,
                             .block_ids = block_ids_[i]});
      batch.logit_rows.push_back(i);
    }
    const absl::Time begin = absl::Now();
    RETURN_IF_ERROR(step_->Run(batch, cache_, /*probe=*/nullptr));
    return absl::ToDoubleSeconds(absl::Now() - begin);
  }

 private:
  explicit Rank(const Sizes* sizes) : sizes_(*sizes) {}

  absl::Status Load(const std::string& model_dir) {
    ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(model_dir));
    ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::OpenCheckpoint(model_dir));
    std::atomic<int64_t> loaded_bytes = 0;
    ASSIGN_OR_RETURN(
        model_, LoadModel(files, config,
                          {.numerics = NumericsOf(config), .max_positions = sizes_.context + 1},
                          gpu_.kernels.get(), gpu_.device.get(), &loaded_bytes));
    return absl::OkStatus();
  }

  absl::Status MakeStep() {
    const ModelConfig& config = model_.config;
    directory_ = std::make_unique<ExpertDirectory>(config, std::vector<std::string>{"expert-0"},
                                                   /*with_mtp=*/false);
    ShardClaim claim;
    for (int layer = 0; layer < config.num_layers; ++layer) {
      if (!config.is_moe_layer(layer)) continue;
      LayerExperts& held = claim.held.emplace_back();
      held.layer = layer;
      for (int expert = 0; expert < config.num_experts; ++expert) held.experts.push_back(expert);
    }
    directory_->SetClaim(0, std::move(claim));
    ASSIGN_OR_RETURN(step_, Step::Create({.model = &model_,
                                          .kernels = gpu_.kernels.get(),
                                          .device = gpu_.device.get(),
                                          .stream = gpu_.stream.get(),
                                          .exchange = exchange_.get(),
                                          .directory = directory_.get()},
                                         {.max_rows = max_batch(), .max_logit_rows = max_batch()}));
    return absl::OkStatus();
  }

  // With noise, in blocks of its own for each sequence.
  absl::Status FillCache() {
    const int num_blocks = KvCache::BlocksFor(sizes_.context + 1);
    ASSIGN_OR_RETURN(cache_, KvCache::Create(model_, max_batch() * num_blocks, gpu_.device.get()));
    const int width = cache_.layer(0).row_width;
    ASSIGN_OR_RETURN(const Buffer noise, gpu_.Upload(Noise(size_t{1} * sizes_.context * width,
                                                           /*seed=*/1)));
    for (int i = 0; i < max_batch(); ++i) {
      std::vector<int32_t>& ids = block_ids_.emplace_back();
      for (int block = 0; block < num_blocks; ++block) ids.push_back(i * num_blocks + block);
      for (int layer = 0; layer < model_.config.num_layers; ++layer) {
        gpu_.kernels->AppendKv({noise.as<float>(), sizes_.context, width}, cache_.layer(layer), ids,
                               /*first_position=*/0);
      }
    }
    return gpu_.stream->Synchronize();
  }

  int max_batch() const { return *std::max_element(sizes_.batches.begin(), sizes_.batches.end()); }

  const Sizes& sizes_;
  // In this order: what uses others goes before them.
  std::unique_ptr<ChildProcess> shard_;
  Gpu gpu_;
  Model model_;
  std::unique_ptr<ChannelLayer> layer_;
  std::unique_ptr<RankExchange> exchange_;
  std::unique_ptr<ExpertDirectory> directory_;
  KvCache cache_;
  std::vector<std::vector<int32_t>> block_ids_;
  std::unique_ptr<Step> step_;
};

absl::Status Measure(const Sizes& sizes, int num_sequences, Rank& rank, BenchTarget& target) {
  const std::vector<Work> works = WorkOfStep(rank.config(), WeightFormat::kStored,
                                             {.num_rows = num_sequences,
                                              .num_sequences = num_sequences,
                                              .context = 1.0 + sizes.context,
                                              .num_logit_rows = num_sequences});
  std::vector<double> seconds, least, share;
  for (int round = -kWarmUps; round < sizes.num_rounds; ++round) {
    ASSIGN_OR_RETURN(const Ceilings ceilings,
                     target.MeasureCeilings(Operands::kBf16, /*with_compute=*/true, kCeilingTime));
    ASSIGN_OR_RETURN(const double time, rank.SecondsOf(num_sequences));
    if (round < 0) continue;
    seconds.push_back(time);
    least.push_back(LeastSeconds(works, ceilings));
    share.push_back(least.back() / time);
  }
  const Spread times = SpreadOf(seconds);
  Note(absl::StrFormat(
      "%s, %d sequences of %d tokens: %.0f us (%.0f to %.0f) in two processes over %s, at least "
      "%.0f us: %.1f%% of the roofline",
      sizes.shape.name, num_sequences, sizes.context, 1e6 * times.median, 1e6 * times.min,
      1e6 * times.max, rank.carrier(), 1e6 * SpreadOf(least).median,
      100.0 * SpreadOf(share).median));
  EXPECT_EQ(rank.carrier(), "cuda_ipc");
  return absl::OkStatus();
}

// Why this machine cannot; empty if it can.
absl::StatusOr<std::string> WhatIsMissing(const Sizes& sizes, const std::string& work_dir) {
  const int64_t need = SyntheticModelBytes(sizes.shape) + sizes.room_bytes;
  std::error_code error;
  const fs::space_info disk = fs::space(work_dir, error);
  if (error) return absl::UnavailableError(absl::StrCat(work_dir, ": ", error.message()));
  if (static_cast<int64_t>(disk.available) < need) {
    return absl::StrCat("the model takes ", need, " bytes of ", work_dir, ", ", disk.available,
                        " are free: say another --log_dir");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeCudaDevice(0));
  ASSIGN_OR_RETURN(const MemoryBytes memory, device->memory());
  if (static_cast<int64_t>(memory.free) < need) {
    return absl::StrCat("the model takes ", need, " bytes of ", device->name(), ", ", memory.free,
                        " of ", memory.total, " are free");
  }
  return std::string();
}

absl::Status MeasureAll(const Sizes& sizes, const std::string& work_dir) {
  ModelOnDisk model(fs::path(work_dir) / sizes.shape.name);
  RETURN_IF_ERROR(model.Write(sizes.shape));
  ASSIGN_OR_RETURN(const std::unique_ptr<Rank> rank, Rank::Open(model.dir(), sizes));
  ASSIGN_OR_RETURN(const std::unique_ptr<BenchTarget> target,
                   MakeCudaTarget({.gemms = OpenCublasLt(), .copy_bytes = sizes.copy_bytes}));
  for (const int num_sequences : sizes.batches) {
    RETURN_IF_ERROR(Measure(sizes, num_sequences, *rank, *target));
  }
  if (!target->note().empty()) Note(target->note());
  return absl::OkStatus();
}

absl::StatusOr<Sizes> SizesOf(const GpuCheckOptions& options) {
  if (options.is_small) return SmallSizes();
  Sizes sizes;
  ASSIGN_OR_RETURN(sizes.shape, FindSyntheticShape(options.preset));
  return sizes;
}

}  // namespace

void RegisterStep(const GpuCheckOptions& options) {
  RegisterTest(kSuite, "DecodesInTwoProcesses", [options] {
    const absl::StatusOr<Sizes> sizes = SizesOf(options);
    ASSERT_TRUE(sizes.ok()) << sizes.status();
    const absl::StatusOr<std::string> missing = WhatIsMissing(*sizes, options.work_dir);
    ASSERT_TRUE(missing.ok()) << missing.status();
    // A full-size layer does not fit every GPU or disk; the summary says so with the numbers.
    if (!missing->empty()) GTEST_SKIP() << *missing;
    const absl::Status status = MeasureAll(*sizes, options.work_dir);
    EXPECT_TRUE(status.ok()) << status;
  });
}

}  // namespace orrery
