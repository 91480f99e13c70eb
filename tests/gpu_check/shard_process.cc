#include "tests/gpu_check/shard_process.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "exchange/cuda_ipc/cuda_ipc_layer.h"
#include "exchange/rank_endpoint.h"
#include "exchange/shm/shm_rank.h"
#include "exchange/shm/shm_shard.h"
#include "model/weight_files.h"
#include "services/expert/serve_loop.h"
#include "services/expert/shard.h"
#include "tests/gpu_check/gpu.h"

namespace orrery {
namespace {

constexpr char kCarrier[] = "cuda_ipc";
// For a shard that loads 12 GB first.
constexpr absl::Duration kPatience = absl::Minutes(5);

void Answer(ShardExchange& exchange, const InboundFrame& frame) {
  const ExchangeOptions options = EchoedRows();
  const std::vector<EntryState> states(frame.entries.size(), EntryState::kDone);
  std::vector<std::byte> results(frame.entries.size() * options.result_bytes);
  for (size_t i = 0; i < frame.entries.size(); ++i) {
    const auto [row, expert] = frame.entries[i];
    EchoOf(expert, {frame.rows + row * options.row_bytes, options.row_bytes},
           {results.data() + i * options.result_bytes, options.result_bytes});
  }
  exchange.Reply(frame, {.states = states, .results = results});
}

absl::Status Echo(ShardExchange& exchange) {
  while (const std::optional<InboundGroup> group = exchange.Receive(absl::InfiniteFuture())) {
    for (const InboundFrame& frame : *group) Answer(exchange, frame);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ShmShardExchange>> Listen(const std::string& name,
                                                         const ExchangeOptions& rows,
                                                         ChannelLayer* layer) {
  ASSIGN_OR_RETURN(std::unique_ptr<ShmShardExchange> exchange,
                   MakeShmShardExchange({.exchange = rows, .name = name, .layer = layer}));
  exchange->SetAccepting(true);
  return exchange;
}

absl::Status ServeModel(const ShardAsked& asked, ChannelLayer* layer) {
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(asked.model_dir));
  ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::OpenCheckpoint(asked.model_dir));
  std::atomic<int64_t> loaded_bytes = 0;
  ASSIGN_OR_RETURN(const std::unique_ptr<Shard> shard,
                   Shard::Load({.files = &files,
                                .config = config,
                                .numerics = NumericsOf(config),
                                .kernels = gpu.kernels.get(),
                                .device = gpu.device.get(),
                                .stream = gpu.stream.get()},
                               {.begin = 0, .end = config.num_experts}, &loaded_bytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<ShmShardExchange> exchange,
                   Listen(asked.name, RowsOf(config, gpu.kernels->family()), layer));
  const ServeLoop loop(exchange.get(), shard.get());
  while (true) pause();
}

absl::Status Serve(const ShardAsked& asked) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ChannelLayer> layer, MakeIpcLayer());
  if (!asked.model_dir.empty()) return ServeModel(asked, layer.get());
  ASSIGN_OR_RETURN(const std::unique_ptr<ShmShardExchange> exchange,
                   Listen(asked.name, EchoedRows(), layer.get()));
  return Echo(*exchange);
}

}  // namespace

std::string UniqueShardName() { return absl::StrCat("gpu-check-", std::random_device()()); }

absl::StatusOr<std::unique_ptr<ChildProcess>> StartShard(const ShardAsked& asked) {
  return ChildProcess::Start({"/proc/self/exe", absl::StrCat("--shard=", asked.name),
                              absl::StrCat("--shard_model=", asked.model_dir)},
                             "/dev/stdout");
}

int RunShard(const ShardAsked& asked) {
  const absl::Status status = Serve(asked);
  std::fprintf(stderr, "shard %s: %s\n", asked.name.c_str(), status.ToString().c_str());
  return 1;
}

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeIpcLayer() {
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(0));
  return MakeCudaIpcLayer({.edges = {.max_edges = 4, .min_backoff = absl::Milliseconds(10)}},
                          std::move(device));
}

absl::StatusOr<std::unique_ptr<RankExchange>> MakeIpcRank(const std::string& shard_name,
                                                          const ExchangeOptions& rows,
                                                          ChannelLayer* layer) {
  ASSIGN_OR_RETURN(
      ChannelFactory below,
      MakeShmChannels({.exchange = rows, .rank_name = "rank", .shard_names = {shard_name}}));
  return std::make_unique<RankEndpoint>(rows, /*num_peers=*/1,
                                        layer->OverChannels(std::move(below)));
}

absl::Status AwaitIpc(const RankExchange& rank, ChildProcess& shard) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (rank.carrier(0) != kCarrier) {
    if (const std::optional<ExitResult> exit = shard.Poll(); exit.has_value()) {
      return absl::UnavailableError(absl::StrCat("the shard's process ended: ", exit->ToString()));
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("no CUDA IPC between two processes after ", absl::FormatDuration(kPatience),
                       ", but \"", std::string(rank.carrier(0)), "\": ", rank.carrier_problem(0)));
    }
    std::this_thread::yield();
  }
  return absl::OkStatus();
}

ExchangeOptions EchoedRows() {
  constexpr int kHidden = 7168;
  return {.numerics_id = "echo",
          .row_bytes = EncodedRowBytes(RowFormat::kFp8, kHidden),
          .result_bytes = EncodedRowBytes(RowFormat::kBf16, kHidden)};
}

void EchoOf(int expert, absl::Span<const std::byte> row, absl::Span<std::byte> result) {
  for (size_t i = 0; i < result.size(); ++i) {
    result[i] = static_cast<std::byte>(static_cast<size_t>(row[i % row.size()]) + 7 * expert + i);
  }
}

Numerics NumericsOf(const ModelConfig& config) {
  return {.row_format = RowFormat::kFp8,
          .ffn_products =
              config.weight_block_outputs > 0 ? FfnProducts::kFp8 : FfnProducts::kPrecision};
}

ExchangeOptions RowsOf(const ModelConfig& config, std::string_view kernel_family) {
  const Numerics numerics = NumericsOf(config);
  return {.numerics_id = NumericsId(numerics, kernel_family),
          .row_bytes = EncodedRowBytes(numerics.row_format, config.hidden_size),
          .result_bytes = EncodedRowBytes(numerics.result_format(), config.hidden_size)};
}

}  // namespace orrery
