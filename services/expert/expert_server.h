// One expert process: listens, loads its slots, serves until told to stop.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<ExpertServer> server, ExpertServer::Start(options));
//   stop.Wait();
//   server->BeginDrain();
//   while (server->is_needed()) ...              // until ranks have found others, or as long as you like
//   server->Stop(absl::Now() + absl::Seconds(5));
//
// While it loads it already answers Describe (LOADING, with progress), health says NOT_SERVING, and
// exchange streams are refused. Start returns when it serves.
#ifndef ORRERY_SERVICES_EXPERT_EXPERT_SERVER_H_
#define ORRERY_SERVICES_EXPERT_EXPERT_SERVER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "device/device.h"
#include "exchange/channel.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/shm/shm_listener.h"
#include "kernels/factory/make_kernels.h"
#include "model/weight_files.h"
#include "proto/cluster.pb.h"
#include "rpc/cluster_file.h"
#include "rpc/member_service.h"
#include "rpc/monitoring/monitor.h"
#include "rpc/server.h"
#include "services/expert/bit_flips.h"
#include "services/expert/copy_host.h"
#include "services/expert/drain.h"
#include "services/expert/placement_service.h"
#include "services/expert/serve_loop.h"
#include "services/expert/shard.h"

namespace orrery {

struct ExpertServerOptions {
  internal::ClusterFile cluster;
  std::string name;  // of an expert member in it
  CpuVariant cpu_variant = CpuVariant::kBest;
  bool reflection = false;
  std::string listen_address = {};               // see rpc/server.h
  std::string monitoring_address = {};           // see rpc/monitoring/monitor.h
  std::optional<BitFlips> flips = std::nullopt;  // for tests
};

class ExpertServer {
 public:
  // Errors: unknown name, dense model, those of server and checkpoint.
  static absl::StatusOr<std::unique_ptr<ExpertServer>> Start(const ExpertServerOptions& options);
  ~ExpertServer();
  const std::string& address() const { return server_->address(); }
  // Unready, and says so, but goes on: ranks ask others from now on, where there are some, or heirs load
  // what nobody else holds.
  void BeginDrain();
  // Whether a rank still asks, or may not have heard yet. See drain.h.
  bool is_needed();
  // Unready first, then no new frames, then down. Idempotent.
  void Stop(absl::Time deadline);

 private:
  ExpertServer() = default;
  absl::Status Load(const ExpertServerOptions& options, int shard_index,
                    const std::string& model_dir, const ModelConfig& config,
                    const Numerics& numerics);
  // All that the shard will take of its host and of a GPU, or why that does not fit.
  absl::Status TakeMemory(const ShardParts& parts, int shard_index);
  absl::Status ReserveGpu(const Shard::Memory& need, ExpertRange range);
  absl::Status ListenInSharedMemory(const internal::ClusterFile& cluster, const ClusterMember& me,
                                    const ExchangeOptions& exchange);
  absl::Status MakeCudaIpc(const internal::ClusterFile& cluster, int gpu);
  void SetAccepting(bool accepting);
  void Announce(const Fingerprint& fingerprint, absl::Span<const LayerExperts> held_experts);

  internal::ClusterFile cluster_;
  ExchangeOptions exchange_options_;
  int max_copies_ = 0;
  std::optional<WeightFiles> files_;
  std::atomic<int64_t> loaded_bytes_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Shard> shard_;
  std::unique_ptr<MemberService> member_;
  PlacementService placement_;
  // Over the channels of exchange_ and of shm_; null if there is none.
  std::unique_ptr<ChannelLayer> grpc_layer_, shm_layer_;
  std::unique_ptr<GrpcShardExchange> exchange_;
  std::unique_ptr<ShmListener> shm_;  // feeds exchange_ too; null if there is none
  std::unique_ptr<Server> server_;
  std::unique_ptr<ServeLoop> loop_;
  std::unique_ptr<CopyHost> copy_host_;  // it uses the others
  std::optional<Drain> drain_;
  std::unique_ptr<Monitor> monitor_;  // last: it looks at all of them
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_EXPERT_SERVER_H_
