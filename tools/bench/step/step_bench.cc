#include "tools/bench/step/step_bench.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "exchange/frame.h"
#include "rpc/server.h"
#include "services/attention/kv_cache.h"
#include "services/attention/step.h"
#include "services/expert/shard.h"
#include "tools/bench/bare_stream/bare_stream.h"
#include "tools/bench/step/direct_exchange.h"

namespace orrery {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

// Steps of one rank: num_sequences sequences, all at the same position.
class Stepper {
 public:
  static absl::StatusOr<std::unique_ptr<Stepper>> Create(const StepParts& parts,
                                                         const StepBenchOptions& options) {
    auto stepper = std::make_unique<Stepper>();
    stepper->options_ = &options;
    stepper->vocab_size_ = parts.model->config.vocab_size;
    const int blocks = KvCache::BlocksFor(options.context_tokens + 1);
    ASSIGN_OR_RETURN(stepper->step_,
                     Step::Create(parts, {.max_rows = std::max(64, options.num_sequences),
                                          .max_logit_rows = options.num_sequences}));
    ASSIGN_OR_RETURN(stepper->cache_,
                     KvCache::Create(*parts.model, options.num_sequences * blocks, parts.device));
    for (int i = 0; i < options.num_sequences; ++i) {
      std::vector<int32_t>& ids = stepper->block_ids_.emplace_back();
      for (int block = 0; block < blocks; ++block) ids.push_back(i * blocks + block);
      for (int first = 0; first < options.context_tokens; first += 64) {
        const int num_rows = std::min(64, options.context_tokens - first);
        RETURN_IF_ERROR(stepper->Run(i, i + 1, first, num_rows));
      }
    }
    return stepper;
  }

  absl::StatusOr<absl::Duration> Decode() {
    const absl::Time begin = absl::Now();
    RETURN_IF_ERROR(Run(0, options_->num_sequences, options_->context_tokens, /*num_rows=*/1));
    return absl::Now() - begin;
  }

 private:
  absl::Status Run(int begin, int end, int first_position, int num_rows) {
    Batch batch;
    batch.expert_timeout = kPatience;
    batch.lane = num_rows == 1 ? Lane::kDecode : Lane::kBulk;
    for (int i = begin; i < end; ++i) {
      batch.spans.push_back({.row_begin = batch.num_rows(),
                             .num_rows = num_rows,
                             .first_position = first_position,
                             .block_ids = block_ids_[i]});
      for (int row = 0; row < num_rows; ++row) {
        batch.ids.push_back(static_cast<int32_t>(random_() % vocab_size_));
      }
      batch.logit_rows.push_back(batch.num_rows() - 1);
    }
    return step_->Run(batch, cache_, /*probe=*/nullptr);
  }

  const StepBenchOptions* options_ = nullptr;
  int vocab_size_ = 0;
  std::unique_ptr<Step> step_;
  KvCache cache_;
  std::vector<std::vector<int32_t>> block_ids_;
  std::mt19937 random_{7};
};

absl::Duration Median(std::vector<absl::Duration> times) {
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// A frame of one row per sequence to the shard, and all of its results back.
BareStream::Sizes FrameSizes(const ModelConfig& config, const Shard& shard, int num_sequences) {
  const size_t entries = static_cast<size_t>(num_sequences) * config.num_experts_per_token;
  return {.bytes_out = DispatchRowsOffset(entries) + num_sequences * shard.row_bytes(),
          .bytes_back = ReplyRowsOffset(entries) + entries * shard.result_bytes()};
}

}  // namespace

absl::StatusOr<StepCosts> MeasureStep(const StepBenchOptions& options) {
  LocalClusterOptions cluster_options = options.cluster;
  cluster_options.num_ranks = 1;
  cluster_options.num_shards = 1;
  cluster_options.transport = LocalTransport::kGrpc;
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalCluster> cluster,
                   LocalCluster::Create(cluster_options));
  const StepParts over_grpc = cluster->parts(0);
  const ModelConfig& config = cluster->config();
  if (config.num_experts == 0) {
    return absl::InvalidArgumentError("a dense model has no exchanges; give one with experts");
  }

  // The same shard again, for the rank's own thread.
  std::atomic<int64_t> loaded_bytes = 0;
  ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::OpenCheckpoint(cluster_options.model_dir));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Kernels> shard_kernels,
      MakeKernels(cluster_options.backend, cluster_options.cpu_variant, over_grpc.stream));
  const ShardParts shard_parts = {.files = &files,
                                  .config = config,
                                  .numerics = cluster_options.numerics,
                                  .kernels = shard_kernels.get(),
                                  .device = over_grpc.device,
                                  .stream = over_grpc.stream};
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Shard> shard,
      Shard::Load(shard_parts, {.begin = 0, .end = config.num_experts}, &loaded_bytes));
  DirectExchange direct(shard.get());
  StepParts without_way = over_grpc;
  without_way.exchange = &direct;

  BareEchoService echo_service;
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> echo_server,
                   Server::Start({.address = "127.0.0.1:0"}, {&echo_service}));
  ASSIGN_OR_RETURN(const std::unique_ptr<BareStream> echo,
                   BareStream::Open(echo_server->address(), /*local_socket=*/true));
  const BareStream::Sizes sizes = FrameSizes(config, *shard, options.num_sequences);
  ASSIGN_OR_RETURN(const std::unique_ptr<Stepper> far, Stepper::Create(over_grpc, options));
  ASSIGN_OR_RETURN(const std::unique_ptr<Stepper> near, Stepper::Create(without_way, options));
  std::vector<absl::Duration> step, kernels, round_trips;
  StepCosts costs;
  for (int round = -10; round < options.num_rounds; ++round) {  // the first ones warm up
    ASSIGN_OR_RETURN(const absl::Duration step_time, far->Decode());
    const int before = direct.num_dispatches();
    ASSIGN_OR_RETURN(const absl::Duration kernel_time, near->Decode());
    costs.num_exchanges = direct.num_dispatches() - before;
    for (int i = 0; i < costs.num_exchanges; ++i) {
      ASSIGN_OR_RETURN(const absl::Duration round_trip, echo->RoundTrip(sizes));
      if (round >= 0) round_trips.push_back(round_trip);
    }
    if (round < 0) continue;
    step.push_back(step_time);
    kernels.push_back(kernel_time);
  }
  costs.step = Median(std::move(step));
  costs.kernels = Median(std::move(kernels));
  costs.round_trip = Median(std::move(round_trips));
  return costs;
}

}  // namespace orrery
