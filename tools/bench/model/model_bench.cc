#include "tools/bench/model/model_bench.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/processors.h"
#include "tools/bench/kernels/machine/ceiling_meter.h"
#include "tools/bench/model/step_work.h"
#include "tools/bench/model/token_source.h"

namespace orrery {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
// How long each ceiling is measured, each round.
constexpr absl::Duration kCeilingTime = absl::Milliseconds(200);

// The largest that this process's resident memory has been, files that it maps included.
int64_t PeakBytes() {
  std::ifstream file("/proc/self/status");
  std::string word;
  while (file >> word) {
    int64_t kib = 0;
    if (word == "VmHWM:" && file >> kib) return kib * 1024;
  }
  return 0;
}

// A model in this process, and its one engine.
struct LocalModel {
  std::unique_ptr<LocalCluster> cluster;
  std::unique_ptr<Engine> engine;  // ends before the cluster

  static absl::StatusOr<LocalModel> Open(const LocalClusterOptions& options, int max_sequences,
                                         int max_tokens, int max_step_rows) {
    LocalModel model;
    ASSIGN_OR_RETURN(model.cluster, LocalCluster::Create(options));
    EngineOptions engine_options;
    engine_options.max_context_tokens = max_tokens;
    engine_options.num_kv_blocks = max_sequences * KvCache::BlocksFor(max_tokens);
    engine_options.use_prefix_cache = false;
    engine_options.scheduler.max_step_rows = max_step_rows;
    engine_options.scheduler.max_prefill_rows = max_step_rows;
    engine_options.scheduler.max_running = max_sequences;
    ASSIGN_OR_RETURN(model.engine, Engine::Start(model.cluster->parts(0), engine_options));
    return model;
  }
};

class ModelBench {
 public:
  explicit ModelBench(const ModelBenchOptions& options) : options_(options) {}

  absl::StatusOr<ModelBenchResult> Run() {
    RETURN_IF_ERROR(Prepare());
    RETURN_IF_ERROR(MeasureSteps());
    result_.bytes_per_s = SpreadOf(bytes_per_s_);
    result_.flops_per_s = SpreadOf(flops_per_s_);
    result_.peak_bytes = PeakBytes();
    if (options_.exchange_batch > 0) RETURN_IF_ERROR(MeasureExchange());
    return std::move(result_);
  }

 private:
  absl::Status Prepare() {
    ASSIGN_OR_RETURN(config_, ReadModelConfig(options_.cluster.model_dir));
    if (config_.attention != ModelConfig::AttentionKind::kMla || config_.num_experts == 0) {
      return absl::UnimplementedError(absl::StrCat(
          "the model in ", options_.cluster.model_dir,
          " is no DeepSeek model with experts, and bench model counts only what those read"));
    }
    max_batch_ = *std::max_element(options_.batches.begin(), options_.batches.end());
    longest_prompt_ = options_.context_tokens;
    for (const int tokens : options_.prefills) longest_prompt_ = std::max(longest_prompt_, tokens);
    // Those that begin first go on while the others begin.
    max_tokens_ = std::min(config_.max_positions,
                           std::max(longest_prompt_ + 1, options_.context_tokens + max_batch_ +
                                                             2 * options_.num_steps + 64));
    if (longest_prompt_ >= max_tokens_) {
      return absl::InvalidArgumentError(absl::StrCat("the model takes ", config_.max_positions,
                                                     " tokens, too few for a prompt of ",
                                                     longest_prompt_));
    }
    result_.command = options_.command;
    result_.model_dir = options_.cluster.model_dir;
    result_.machine = ReadMachineFacts("/");
    result_.num_threads = options_.cluster.num_threads;
    result_.num_layers = config_.num_layers;
    return absl::OkStatus();
  }

  absl::Status MeasureSteps() {
    Say("loading the model");
    LocalClusterOptions cluster = options_.cluster;
    cluster.num_ranks = cluster.num_shards = 1;
    cluster.transport = LocalTransport::kLoopback;
    ASSIGN_OR_RETURN(
        const LocalModel model,
        LocalModel::Open(cluster, max_batch_, max_tokens_, std::max(longest_prompt_, max_batch_)));
    result_.cluster = model.cluster->Describe();
    ASSIGN_OR_RETURN(meter_,
                     CeilingMeter::Create(std::string(model.cluster->parts(0).kernels->variant()),
                                          WorkingSetBytes(0, result_.machine)));
    const std::unique_ptr<TokenSource> source = MakeEngineSource(model.engine.get());
    RETURN_IF_ERROR(SecondsPerStep(*source, LoadOf(1, 0)).status());  // warms up
    for (const int batch : options_.batches) {
      Say(absl::StrCat("decoding, ", batch, " at a time"));
      const StepShape shape = {.num_rows = batch,
                               .num_sequences = batch,
                               .context = options_.context_tokens + options_.num_steps / 2.0,
                               .num_logit_rows = batch};
      RETURN_IF_ERROR(Measure("decode", shape, [&](int round) {
        return SecondsPerStep(*source, LoadOf(batch, round));
      }));
    }
    for (const int tokens : options_.prefills) {
      Say(absl::StrCat("a prompt of ", tokens, " tokens"));
      const StepShape shape = {.num_rows = tokens,
                               .num_sequences = 1,
                               .context = (tokens + 1) / 2.0,
                               .num_logit_rows = 1};
      RETURN_IF_ERROR(Measure("prefill", shape, [&](int round) {
        return SecondsToFirstToken(*source, tokens, config_.vocab_size, round);
      }));
    }
    return absl::OkStatus();
  }

  absl::Status Measure(const std::string& phase, const StepShape& shape,
                       const std::function<absl::StatusOr<double>(int)>& measure) {
    const std::vector<Work> works =
        WorkOfStep(config_, options_.cluster.numerics.ffn_weights, shape);
    ModelFigures figures = {.phase = phase, .num_rows = shape.num_rows};
    for (const Work& work : works) {
      figures.bytes += work.bytes;
      figures.flops += work.flops;
    }
    std::vector<double> seconds, least, share;
    for (int round = 0; round < options_.num_rounds; ++round) {
      const Ceilings ceilings = {
          .bytes_per_s =
              AverageRate(kCeilingTime,
                          [&] { return meter_->ReadBytesPerSecond(options_.cluster.num_threads); }),
          .flops_per_s = AverageRate(kCeilingTime, [&] {
            return meter_->MultiplyFlopsPerSecond(options_.cluster.num_threads);
          })};
      bytes_per_s_.push_back(ceilings.bytes_per_s);
      flops_per_s_.push_back(ceilings.flops_per_s);
      ASSIGN_OR_RETURN(const double time, measure(round));
      seconds.push_back(time);
      least.push_back(LeastSeconds(works, ceilings));
      share.push_back(least.back() / time);
    }
    figures.seconds = SpreadOf(seconds);
    figures.least_seconds = SpreadOf(least).median;
    figures.share = SpreadOf(share);
    result_.figures.push_back(figures);
    return absl::OkStatus();
  }

  // The same rank and shards twice, in turns: as processes, and as threads of this one.
  absl::Status MeasureExchange() {
    Topology topology = options_.processes;
    topology.num_ranks = 1;
    topology.num_shards = 2;
    topology.limits.set_max_running_sequences(options_.exchange_batch);
    topology.limits.set_max_context_tokens(max_tokens_);
    topology.num_threads = std::max(1, NumUsableProcessors() / (1 + topology.num_shards));
    Say("starting a rank and two shards as processes");
    ASSIGN_OR_RETURN(const std::unique_ptr<Launcher> launcher,
                     Launcher::StartLocal(topology, options_.launch));
    RETURN_IF_ERROR(launcher->WaitUntilReady(options_.start_timeout));
    ASSIGN_OR_RETURN(OrreryClient client,
                     OrreryClient::Connect({launcher->router_address()}, {}, kConnectTimeout));
    const std::unique_ptr<TokenSource> processes = MakeClusterSource(&client);

    Say("loading the same into this process");
    LocalClusterOptions cluster = options_.cluster;
    cluster.num_ranks = 1;
    cluster.num_shards = topology.num_shards;
    cluster.num_threads = topology.num_threads;
    cluster.transport = LocalTransport::kLoopback;
    ASSIGN_OR_RETURN(const LocalModel model,
                     LocalModel::Open(cluster, options_.exchange_batch, max_tokens_,
                                      std::max(256, options_.exchange_batch)));
    const std::unique_ptr<TokenSource> threads = MakeEngineSource(model.engine.get());

    std::vector<double> ratios;
    for (int round = -1; round < options_.num_rounds; ++round) {  // the first one warms up
      Say(absl::StrCat("in turns, round ", round + 1, " of ", options_.num_rounds));
      const DecodeLoad load = LoadOf(options_.exchange_batch, round + 1);
      ASSIGN_OR_RETURN(const double near, SecondsPerStep(*threads, load));
      ASSIGN_OR_RETURN(const double far, SecondsPerStep(*processes, load));
      if (round >= 0) ratios.push_back(near / far);
    }
    RETURN_IF_ERROR(launcher->CheckAlive());
    result_.exchange_batch = options_.exchange_batch;
    result_.loopback_over_processes = SpreadOf(ratios);
    return absl::OkStatus();
  }

  DecodeLoad LoadOf(int num_sequences, int round) const {
    return {.num_sequences = num_sequences,
            .prompt_tokens = options_.context_tokens,
            .num_steps = options_.num_steps,
            .max_tokens = max_tokens_,
            .vocab_size = config_.vocab_size,
            .seed = static_cast<uint64_t>(round) + 1};
  }

  void Say(const std::string& what) const {
    if (options_.on_progress) options_.on_progress(what);
  }

  const ModelBenchOptions& options_;
  ModelConfig config_;
  int max_batch_ = 0;
  int longest_prompt_ = 0;
  int max_tokens_ = 0;
  std::unique_ptr<CeilingMeter> meter_;
  std::vector<double> bytes_per_s_;
  std::vector<double> flops_per_s_;
  ModelBenchResult result_;
};

}  // namespace

absl::StatusOr<ModelBenchResult> RunModelBench(const ModelBenchOptions& options) {
  return ModelBench(options).Run();
}

}  // namespace orrery
