// The other process of a part: an expert shard on the same GPU, reached over shared memory, whose rows come and go by CUDA
// IPC. It is this program again, with --shard, and does as expert processes do; without gRPC.
//
//   const ShardAsked asked = {.name = UniqueShardName(), .model_dir = dir};
//   ASSIGN_OR_RETURN(const std::unique_ptr<ChildProcess> shard, StartShard(asked));
//   ASSIGN_OR_RETURN(const std::unique_ptr<ChannelLayer> layer, MakeIpcLayer());
//   ASSIGN_OR_RETURN(const std::unique_ptr<RankExchange> rank, MakeIpcRank(asked.name, rows, layer.get()));
//   RETURN_IF_ERROR(AwaitIpc(*rank, *shard));
//
//   return RunShard(asked);      // in main(), of the other process: until it is killed
//
// What it prints goes where the part's own words go.
#ifndef ORRERY_TESTS_GPU_CHECK_SHARD_PROCESS_H_
#define ORRERY_TESTS_GPU_CHECK_SHARD_PROCESS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "exchange/channel.h"
#include "exchange/exchange.h"
#include "model/numerics.h"
#include "tools/launch/child_process.h"

namespace orrery {

struct ShardAsked {
  std::string name;
  // Whose experts it computes, all of them. Empty: it answers EchoOf each row.
  std::string model_dir = {};
};

std::string UniqueShardName();
// It dies with its ChildProcess, and with this process.
absl::StatusOr<std::unique_ptr<ChildProcess>> StartShard(const ShardAsked& asked);
int RunShard(const ShardAsked& asked);

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeIpcLayer();
// To that one shard. layer: outlives it.
absl::StatusOr<std::unique_ptr<RankExchange>> MakeIpcRank(const std::string& shard_name,
                                                          const ExchangeOptions& rows,
                                                          ChannelLayer* layer);
// Until rows go to the shard by CUDA IPC. Errors: UNAVAILABLE if its process has ended, DEADLINE_EXCEEDED with what they
// go by instead, and why.
absl::Status AwaitIpc(const RankExchange& rank, ChildProcess& shard);

// Without a model: rows as large as those of DeepSeek-R1, fp8 out and bf16 back, and what is made of one.
ExchangeOptions EchoedRows();
void EchoOf(int expert, absl::Span<const std::byte> row, absl::Span<std::byte> result);
// How a model is computed in two processes: rows in fp8; products of fp8 activations where its weights are fp8.
Numerics NumericsOf(const ModelConfig& config);
ExchangeOptions RowsOf(const ModelConfig& config, std::string_view kernel_family);

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_SHARD_PROCESS_H_
