// What a rank needs of a GPU, counted from its config.json: the R1 distills on a card of 10 GB, what is
// refused and how; and that what was counted, of a rank or a shard, is what is taken.

#include "services/attention/rank_memory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "checkpoint/published_models.h"
#include "checkpoint/test_files.h"
#include "device/cuda/cuda_device.h"
#include "device/host/host_device.h"
#include "device/memory_room.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "model/moe_layers.h"
#include "model/packing.h"
#include "model/weight_files.h"
#include "model/weight_list.h"
#include "services/attention/kv_cache.h"
#include "services/attention/model.h"
#include "services/expert/shard.h"

namespace orrery {
namespace {

constexpr RankMemoryLimits kLimits = {.max_positions = 8192,
                                      .num_kv_blocks = 8192 / kKvBlockTokens,
                                      .step = {.max_rows = 256, .max_logit_rows = 16}};

class RankMemoryOnCuda : public testing::Test {
 protected:
  RankMemory Count(const ModelConfig& config, WeightFormat ffn, WeightFormat linear) {
    const Numerics numerics = {.ffn_weights = ffn, .linear_weights = linear};
    const absl::StatusOr<RankMemory> need =
        CountRankMemory(config, BytesOf(config, StoredBy(config), numerics, *kernels_), numerics,
                        kLimits, *kernels_);
    EXPECT_TRUE(need.ok()) << need.status();
    return need.value_or(RankMemory());
  }

  std::unique_ptr<Device> device_ = *MakeCudaDevice(0);
  std::unique_ptr<Stream> stream_ = device_->MakeStream();
  std::unique_ptr<Kernels> kernels_ = *MakeCudaKernels(stream_.get());
};

ModelConfig Qwen1p5b() { return *PublishedModelConfig("r1_distill_qwen_1.5b"); }
// Source: huggingface.co/deepseek-ai/DeepSeek-R1-Distill-Qwen-7B config.json.
ModelConfig Qwen7b() {
  ModelConfig config = Qwen1p5b();
  config.vocab_size = 152064;
  config.hidden_size = 3584;
  config.num_heads = 28;
  config.num_kv_heads = 4;
  config.intermediate_size = 18944;
  return config;
}
ModelConfig Llama8b() { return *PublishedModelConfig("r1_distill_llama_8b"); }

// Gigabytes with a cache of 8,192 tokens; by arithmetic: see BENCHMARKS.md.
TEST_F(RankMemoryOnCuda, OfTheDistills) {
  constexpr WeightFormat kStored = WeightFormat::kStored, kInt8 = WeightFormat::kInt8,
                         kInt4 = WeightFormat::kInt4;
  struct Row {
    ModelConfig config;
    double stored, int8, all_int8, int4, all_int4;
  };
  for (const Row& row : {Row{Qwen1p5b(), 4.02, 2.88, 2.50, 2.35, 1.80},
                         Row{Qwen7b(), 15.97, 10.35, 9.01, 7.77, 5.80},
                         Row{Llama8b(), 17.40, 11.85, 10.01, 9.30, 6.61}}) {
    SCOPED_TRACE(row.config.hidden_size);
    const auto gigabytes = [&](WeightFormat ffn, WeightFormat linear) {
      return Count(row.config, ffn, linear).total() * 1e-9;
    };
    EXPECT_NEAR(gigabytes(kStored, kStored), row.stored, 0.02);
    EXPECT_NEAR(gigabytes(kInt8, kStored), row.int8, 0.02);
    EXPECT_NEAR(gigabytes(kInt8, kInt8), row.all_int8, 0.02);
    EXPECT_NEAR(gigabytes(kInt4, kStored), row.int4, 0.02);
    EXPECT_NEAR(gigabytes(kInt4, kInt4), row.all_int4, 0.02);
  }
}

TEST_F(RankMemoryOnCuda, HasTheCacheThatItSays) {
  const RankMemory need = Count(Llama8b(), WeightFormat::kInt4, WeightFormat::kStored);
  EXPECT_EQ(need.kv_tokens, 8192);
  EXPECT_EQ(need.kv_cache, size_t{8192} * 131072);
}

TEST_F(RankMemoryOnCuda, IsRefusedWithTheNumbers) {
  const MemoryRoom card =
      RoomOf("cuda:0 RTX 3080", {.free = 10'300'000'000, .total = 10'737'418'240});
  const auto check = [&](const RankMemory& need) {
    return CheckFits("this rank", DeviceNeed(need), card);
  };
  EXPECT_TRUE(check(Count(Llama8b(), WeightFormat::kInt4, WeightFormat::kStored)).ok());
  const absl::Status status = check({.weights = 9'600'000'000,
                                     .kv_cache = 8192 * 131072,
                                     .scratch = 240'000'000,
                                     .kv_tokens = 8192});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(std::string(status.message()),
            "this rank needs 10.91 GB: weights 9.60 GB, KV cache 1.07 GB (8192 tokens), scratch "
            "240.0 MB; 10.30 GB of 10.74 GB are free on cuda:0 RTX 3080. "
            "limits.kv_cache_bytes of at most 452984832 would fit; make smaller: weights by "
            "ffn_weights and linear_weights (int8, int4), scratch by limits.max_step_rows and "
            "limits.max_running_sequences");
  const absl::Status hopeless =
      check({.weights = 11'000'000'000, .kv_cache = 64 * 131072, .scratch = 1, .kv_tokens = 64});
  EXPECT_NE(std::string(hopeless.message()).find("no KV cache would fit beside the rest"),
            std::string::npos)
      << hopeless;
}

// A rank that takes exactly what was counted: nothing is left, and nothing is missing when it steps.
struct Taken {
  const char* model_dir;
  int max_positions;
  bool is_packed = false;
};
class TakenMemory : public testing::TestWithParam<Taken> {};

// Its config.json, and its weights as a packed store.
std::string Pack(const std::string& model_dir, const ModelConfig& config, const Numerics& numerics,
                 Stream* stream) {
  const auto make_kernels = [stream] { return MakeCudaKernels(stream); };
  const std::string numerics_id = NumericsId(numerics, (*make_kernels())->family());
  const std::string dir = MakeTempDir();
  std::filesystem::copy_file(model_dir + "/config.json", dir + "/config.json");
  const std::unique_ptr<Device> host = MakeHostDevice();
  WeightLister lister;
  const ModelOptions options = {
      .numerics = numerics, .max_positions = 1, .with_mtp = config.has_mtp()};
  EXPECT_TRUE(LoadModel(lister, config, options, host.get()).ok());
  for (const int layer : MoeLayers(config, config.has_mtp())) {
    for (int expert = 0; expert < config.num_experts; ++expert) {
      EXPECT_TRUE(lister
                      .FeedForward(ExpertRecord(layer, expert), config.hidden_size,
                                   config.moe_intermediate_size)
                      .ok());
    }
  }
  const absl::Status packed = PackModel(lister.TakeRecords(), config,
                                        {.model_dir = model_dir,
                                         .store_dir = PackedStoreDir(dir, numerics_id),
                                         .numerics = numerics,
                                         .numerics_id = numerics_id,
                                         .make_kernels = make_kernels,
                                         .device = host.get(),
                                         .progress = nullptr});
  EXPECT_TRUE(packed.ok()) << packed;
  return dir;
}

WeightFiles Open(const Taken& taken, const ModelConfig& config, const Numerics& numerics) {
  const auto device = *MakeCudaDevice(0);
  const auto stream = device->MakeStream();
  const std::string model_dir =
      taken.is_packed ? Pack(taken.model_dir, config, numerics, stream.get()) : taken.model_dir;
  const std::string family((*MakeCudaKernels(stream.get()))->family());
  absl::StatusOr<WeightFiles> files = WeightFiles::Open(model_dir, NumericsId(numerics, family));
  EXPECT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->store() != nullptr, taken.is_packed);
  return *std::move(files);
}

void ExpectAllTaken(Device& device) {
  const absl::Status more = device.Allocate(1, MemoryKind::kDevice).status();
  EXPECT_EQ(more.code(), absl::StatusCode::kResourceExhausted) << more;
  EXPECT_NE(std::string(more.message()).find(" 0 are free"), std::string::npos) << more;
}

TEST_P(TakenMemory, OfARankIsWhatWasCounted) {
  const auto device = *MakeCudaDevice(0);
  const auto stream = device->MakeStream();
  const auto kernels = *MakeCudaKernels(stream.get());
  const ModelConfig config = *ReadModelConfig(GetParam().model_dir);
  const Numerics numerics = {.linear_weights = WeightFormat::kInt8};
  const WeightFiles files = Open(GetParam(), config, numerics);
  const RankMemoryLimits limits = {
      .max_positions = GetParam().max_positions,
      .with_mtp = config.has_mtp(),
      .num_kv_blocks = 4,
      .step = {.max_rows = 16, .max_logit_rows = 3, .min_micro_batch_rows = 8}};  // two of them
  const auto need = CountRankMemory(config, files.item_bytes(config, numerics, *kernels), numerics,
                                    limits, *kernels);
  ASSERT_TRUE(need.ok()) << need.status();
  ASSERT_TRUE(device->Reserve(need->total()).ok());

  std::atomic<int64_t> loaded_bytes = 0;
  const ModelOptions options = {
      .numerics = numerics, .max_positions = limits.max_positions, .with_mtp = limits.with_mtp};
  const auto model = LoadModel(files, config, options, kernels.get(), device.get(), &loaded_bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto cache = KvCache::Create(*model, limits.num_kv_blocks, device.get());
  ASSERT_TRUE(cache.ok()) << cache.status();
  const auto step = Step::Create(
      {.model = &*model, .kernels = kernels.get(), .device = device.get(), .stream = stream.get()},
      limits.step);
  ASSERT_TRUE(step.ok()) << step.status();
  // The first graph takes the memory of all.
  ASSERT_TRUE(stream->Capture([] {}).ok());
  ExpectAllTaken(*device);

  if (config.num_experts > 0) return;  // its experts are elsewhere
  const std::vector<int32_t> block_ids = {0, 1, 2, 3};
  for (const int num_rows : {16, 3, 3, 3}) {
    Batch batch;
    batch.ids.assign(num_rows, 1);
    batch.spans.push_back({.num_rows = num_rows, .block_ids = block_ids});
    batch.logit_rows.push_back(num_rows - 1);
    EXPECT_TRUE((*step)->Run(batch, *cache, /*probe=*/nullptr).ok());
  }
}

TEST_P(TakenMemory, OfAShardIsWhatWasCounted) {
  const ModelConfig config = *ReadModelConfig(GetParam().model_dir);
  if (config.num_experts == 0) return;
  const auto device = *MakeCudaDevice(0);
  const auto stream = device->MakeStream();
  const auto kernels = *MakeCudaKernels(stream.get());
  const WeightFiles files = Open(GetParam(), config, Numerics());
  const ShardParts parts = {.files = &files,
                            .config = config,
                            .numerics = {},
                            .with_mtp = config.has_mtp(),
                            .kernels = kernels.get(),
                            .device = device.get(),
                            .stream = stream.get()};
  const ExpertRange range = {.begin = 0, .end = config.num_experts / 2};
  const auto need = Shard::CountMemory(parts, range);
  ASSERT_TRUE(need.ok()) << need.status();
  ASSERT_TRUE(device->Reserve(need->total()).ok());
  std::atomic<int64_t> loaded_bytes = 0;
  const auto shard = Shard::Load(parts, range, &loaded_bytes);
  ASSERT_TRUE(shard.ok()) << shard.status();
  ExpectAllTaken(*device);
}

// yarn_long is stored in f32, of which config.json says nothing.
INSTANTIATE_TEST_SUITE_P(
    All, TakenMemory,
    testing::Values(Taken{"models/abacus", 1500}, Taken{"tests/data/golden/qwen2_tied", 500},
                    Taken{"tests/data/golden/mtp", 500}, Taken{"tests/data/golden/yarn_long", 500},
                    Taken{"tests/data/golden/yarn_long", 500, /*is_packed=*/true},
                    Taken{"tests/data/golden/mtp", 500, /*is_packed=*/true},
                    Taken{"tests/data/golden/qwen2_tied", 500, /*is_packed=*/true}));

}  // namespace
}  // namespace orrery
