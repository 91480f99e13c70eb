// A whole cluster inside this process: ranks and shards as objects, joined by the exchange of any
// transport.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<LocalCluster> cluster,
//                    LocalCluster::Create({.model_dir = dir, .num_ranks = 2}));
//   ASSIGN_OR_RETURN(std::unique_ptr<Step> step, Step::Create(cluster->parts(0), {}));
//
// Shards serve from Create to destruction, each in a thread of its own. It runs the same code as
// the processes do, without their servers: for `check`, `eval` and tests.
//
// Threads: parts(i) may be used by one thread each, all at the same time.
#ifndef ORRERY_TOOLS_LOCAL_CLUSTER_H_
#define ORRERY_TOOLS_LOCAL_CLUSTER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/device.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/loopback/loopback.h"
#include "exchange/shm/shm_shard.h"
#include "kernels/factory/make_kernels.h"
#include "model/numerics.h"
#include "model/weight_files.h"
#include "rpc/server.h"
#include "services/attention/expert_directory.h"
#include "services/attention/model.h"
#include "services/attention/step.h"
#include "services/expert/serve_loop.h"
#include "services/expert/shard.h"

namespace orrery {

enum class LocalTransport { kLoopback, kGrpc, kShm };

struct LocalClusterOptions {
  std::string model_dir;
  Backend backend = Backend::kCpu;
  int gpu = 0;  // of backend cuda
  CpuVariant cpu_variant = CpuVariant::kBest;
  Numerics numerics = {};
  LocalTransport transport = LocalTransport::kLoopback;
  int num_ranks = 1;
  int num_shards = 1;          // ignored for a dense model
  int max_context_tokens = 0;  // 0: what the model allows
  int num_threads = 1;         // of each rank and each shard
  bool with_mtp = false;       // ranks and shards load the MTP module too
  // Instead of what the backend names: for tests that bring a device of their own.
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> make_device = nullptr;
  std::function<absl::StatusOr<std::unique_ptr<Kernels>>(Stream*)> make_kernels = nullptr;
};

// What its ranks and shards compute on. Errors: those of kernels/factory.
absl::StatusOr<std::unique_ptr<Device>> MakeDeviceOf(const LocalClusterOptions& options);
absl::StatusOr<std::unique_ptr<Kernels>> MakeKernelsOf(const LocalClusterOptions& options,
                                                       Stream* stream);

class LocalCluster {
 public:
  // Errors: those of the checkpoint and of the servers; INVALID_ARGUMENT for less than one rank or
  // shard.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Create(const LocalClusterOptions& options);
  ~LocalCluster();

  const ModelConfig& config() const { return model_->config; }
  int max_context_tokens() const { return max_context_tokens_; }
  int num_ranks() const { return static_cast<int>(ranks_.size()); }
  // "x86-1 avx512, 2 ranks, 5 shards over grpc, x86-1 act=f32 ..."
  std::string Describe() const;
  StepParts parts(int rank) const;

 private:
  // A processor with its kernels: one per rank and per shard, since kernels serve one thread.
  struct Processor {
    std::unique_ptr<Stream> stream;
    std::unique_ptr<Kernels> kernels;
  };
  struct ShardHost {
    Processor processor;
    std::unique_ptr<Shard> shard;
    std::unique_ptr<GrpcShardExchange> exchange;  // gRPC only
    std::unique_ptr<Server> server;               // gRPC only
    std::unique_ptr<ShmShardExchange> shm;        // shared memory only
    std::string shm_name;                         // likewise
    std::unique_ptr<ServeLoop> loop;
  };
  struct Rank {
    Processor processor;
    std::unique_ptr<ExpertDirectory> directory;
    std::unique_ptr<RankExchange> own_exchange;  // null over loopback
    RankExchange* exchange = nullptr;
  };

  LocalCluster() = default;
  absl::StatusOr<Processor> MakeProcessor() const;
  ExchangeOptions MakeExchangeOptions() const;
  absl::Status StartShards(const WeightFiles& files, const ModelConfig& config);
  absl::StatusOr<ShardExchange*> OpenExchange(int shard);
  absl::Status ConnectRanks();
  absl::StatusOr<std::unique_ptr<RankExchange>> Connect(int rank);

  LocalClusterOptions options_;
  int max_context_tokens_ = 0;
  std::atomic<int64_t> loaded_bytes_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Loopback> loopback_;
  std::vector<ShardHost> shards_;
  std::vector<Rank> ranks_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_LOCAL_CLUSTER_H_
