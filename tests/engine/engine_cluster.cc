#include "tests/engine/engine_cluster.h"

#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "device/host/host_device.h"
#include "gtest/gtest.h"
#include "kernels/factory/make_kernels.h"
#include "services/attention/kv_cache.h"

namespace orrery {

EngineBackend CpuBackend() {
  return {.make_device = [] { return MakeHostDevice(); },
          .make_kernels =
              [](Stream* stream) { return MakeKernels(Backend::kCpu, CpuVariant::kBest, stream); }};
}

std::unique_ptr<EngineCluster> EngineCluster::Make(const EngineClusterOptions& options) {
  std::unique_ptr<EngineCluster> cluster(new EngineCluster());
  const absl::Status status = cluster->Build(options);
  EXPECT_TRUE(status.ok()) << status;
  return status.ok() ? std::move(cluster) : nullptr;
}

absl::Status EngineCluster::Build(const EngineClusterOptions& options) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model_dir));
  ASSIGN_OR_RETURN(files_, WeightFiles::OpenCheckpoint(options.model_dir));
  ASSIGN_OR_RETURN(device_, options.backend.make_device());
  ranks_.resize(options.num_ranks);
  for (Rank& rank : ranks_) {
    ASSIGN_OR_RETURN(rank.processor, MakeProcessor(options.backend));
  }
  Kernels* kernels = ranks_[0].processor.kernels.get();
  ASSIGN_OR_RETURN(model_, LoadModel(*files_, config,
                                     {.numerics = options.numerics,
                                      .max_positions = options.max_context_tokens,
                                      .with_mtp = options.with_mtp},
                                     kernels, device_.get(), &loaded_bytes_));

  const int num_shards = static_cast<int>(options.shards.size());
  ExchangeOptions exchange;
  exchange.numerics_id = NumericsId(options.numerics, kernels->family());
  exchange.row_bytes = EncodedRowBytes(options.numerics.row_format, config.hidden_size);
  exchange.result_bytes = EncodedRowBytes(options.numerics.result_format(), config.hidden_size);
  ASSIGN_OR_RETURN(
      loopback_,
      Loopback::Create({.num_ranks = options.num_ranks, .num_shards = num_shards}, exchange));
  audit_one_in_ = options.audit_one_in;
  shards_.resize(num_shards);
  std::vector<std::string> shard_names;
  for (int i = 0; i < num_shards; ++i) shard_names.push_back(absl::StrCat("expert-", i));
  for (int i = 0; i < num_shards; ++i) {
    ASSIGN_OR_RETURN(shards_[i].processor, MakeProcessor(options.backend));
    const ShardParts parts = {.files = &*files_,
                              .config = config,
                              .numerics = options.numerics,
                              .with_mtp = options.with_mtp,
                              .kernels = shards_[i].processor.kernels.get(),
                              .device = device_.get(),
                              .stream = shards_[i].processor.stream.get()};
    ASSIGN_OR_RETURN(shards_[i].shard, Shard::Load(parts, options.shards[i], &loaded_bytes_));
    if (options.heir_room > 0) RETURN_IF_ERROR(MakeHeir(options, parts, shards_[i]));
  }
  for (Rank& rank : ranks_) {
    rank.directory = std::make_unique<ExpertDirectory>(config, shard_names, options.with_mtp);
    for (int i = 0; i < num_shards; ++i) {
      rank.directory->SetClaim(i, {.held = shards_[i].shard->held(), .room = options.heir_room});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<EngineCluster::Processor> EngineCluster::MakeProcessor(
    const EngineBackend& backend) const {
  Processor processor;
  processor.stream = device_->MakeStream();
  ASSIGN_OR_RETURN(processor.kernels, backend.make_kernels(processor.stream.get()));
  return processor;
}

absl::Status EngineCluster::MakeHeir(const EngineClusterOptions& options, ShardParts parts,
                                     ShardHost& host) {
  ASSIGN_OR_RETURN(host.heir_processor, MakeProcessor(options.backend));
  parts.kernels = host.heir_processor.kernels.get();
  parts.stream = host.heir_processor.stream.get();
  CopiesOptions copies;
  copies.max_copies = options.heir_room;
  copies.hand_over = [&host](ExpertKey key, FeedForwardWeights weights) {
    host.loop->Change([&](Shard& shard) { shard.Add(key, std::move(weights)); });
  };
  host.copies = std::make_unique<Copies>(parts, copies, &loaded_bytes_);
  host.shard->SetHeir(
      [&host](ExpertKey key, int num_rows) { return host.copies->Ask(key, num_rows); });
  host.copies->Start([] { return absl::OkStatus(); });
  return absl::OkStatus();
}

StepParts EngineCluster::parts(int rank) const {
  return {.model = &model_,
          .kernels = ranks_[rank].processor.kernels.get(),
          .device = device_.get(),
          .stream = ranks_[rank].processor.stream.get(),
          .exchange = &loopback_->rank(rank),
          .directory = ranks_[rank].directory.get(),
          .hedge = {.max_patience = kHedgePatience},
          .audit_one_in = audit_one_in_};
}

void EngineCluster::Answer(int shard) {
  ShardHost& host = shards_[shard];
  host.loop = std::make_unique<ServeLoop>(&loopback_->shard(shard), host.shard.get());
}

void EngineCluster::AnswerAll() {
  for (size_t shard = 0; shard < shards_.size(); ++shard) Answer(static_cast<int>(shard));
}

void EngineCluster::FallSilent(int shard) { shards_[shard].loop.reset(); }

PromptRunner::PromptRunner(const StepParts& parts, int max_rows, int min_micro_batch_rows)
    : step_(Step::Create(parts, {.max_rows = max_rows,
                                 .max_logit_rows = 1,
                                 .min_micro_batch_rows = min_micro_batch_rows})),
      cache_(KvCache::Create(*parts.model, KvCache::BlocksFor(max_rows), parts.device)) {}

absl::StatusOr<std::vector<float>> PromptRunner::Run(const std::vector<int32_t>& ids,
                                                     absl::Duration expert_timeout,
                                                     const PromptWatch& watch) {
  RETURN_IF_ERROR(step_.status());
  RETURN_IF_ERROR(cache_.status());
  const int num_rows = static_cast<int>(ids.size());
  std::vector<int32_t> block_ids(cache_->num_blocks());
  std::iota(block_ids.begin(), block_ids.end(), 0);
  Batch batch;
  batch.ids = ids;
  batch.spans.push_back({.row_begin = 0, .num_rows = num_rows, .block_ids = block_ids});
  batch.logit_rows.push_back(num_rows - 1);
  batch.lane = Lane::kBulk;
  batch.expert_timeout = expert_timeout;
  batch.abandoned = watch.abandoned;
  RETURN_IF_ERROR((*step_)->Run(batch, *cache_, watch.probe));
  const absl::Span<const float> logprobs = (*step_)->logprobs(0);
  return std::vector<float>(logprobs.begin(), logprobs.end());
}

absl::StatusOr<std::vector<float>> RunPrompt(const StepParts& parts,
                                             const std::vector<int32_t>& ids,
                                             absl::Duration expert_timeout,
                                             const PromptWatch& watch) {
  return PromptRunner(parts, static_cast<int>(ids.size())).Run(ids, expert_timeout, watch);
}

std::vector<int32_t> RandomIds(const ModelConfig& config, int num_ids, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(num_ids);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % config.vocab_size);
  return ids;
}

}  // namespace orrery
