// One attention process: listens, loads its part of the model, joins the shards, serves until told
// to stop.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<AttentionServer> server, AttentionServer::Start(options));
//   stop.Wait();
//   server->Stop(absl::Now() + absl::Seconds(5));
//
// While it loads it already answers Describe. It is ready once every expert has a holder; until
// then, and again when one is missing, requests are refused with UNAVAILABLE and the reason.
#ifndef ORRERY_SERVICES_ATTENTION_ATTENTION_SERVER_H_
#define ORRERY_SERVICES_ATTENTION_ATTENTION_SERVER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "checkpoint/tokenizer.h"
#include "device/device.h"
#include "exchange/exchange.h"
#include "kernels/factory/make_kernels.h"
#include "proto/cluster.pb.h"
#include "rpc/cluster_file.h"
#include "rpc/member_service.h"
#include "rpc/monitoring/monitor.h"
#include "rpc/server.h"
#include "services/attention/attention_service.h"
#include "services/attention/engine.h"
#include "services/attention/expert_directory.h"
#include "services/attention/model.h"
#include "services/attention/rank_memory.h"
#include "services/attention/shard_watch.h"

namespace orrery {

struct AttentionServerOptions {
  internal::ClusterFile cluster;
  std::string name;  // of an attention member in it
  CpuVariant cpu_variant = CpuVariant::kBest;
  bool reflection = false;
  std::string listen_address = {};      // see rpc/server.h
  std::string monitoring_address = {};  // see rpc/monitoring/monitor.h
};

class AttentionServer {
 public:
  // Returns when the weights are loaded; the shards may still be missing. Errors: unknown name, a
  // MoE model without expert members or a dense one with some, those of server, checkpoint and
  // cache.
  static absl::StatusOr<std::unique_ptr<AttentionServer>> Start(
      const AttentionServerOptions& options);
  ~AttentionServer();
  const std::string& address() const { return server_->address(); }
  // Unready, and says so: new requests end with UNAVAILABLE, "this rank is draining", those that run go on.
  void BeginDrain();
  // Whether some still run.
  bool is_needed() const;
  // Unready first; running answers end with UNAVAILABLE. Idempotent.
  void Stop(absl::Time deadline);

 private:
  AttentionServer() = default;
  absl::Status Listen(const AttentionServerOptions& options, const ClusterMember& me,
                      const CpuThreads& threads);
  // All that it will take of its host and of a GPU, or why that does not fit.
  absl::Status TakeMemory(const WeightFiles& files, const internal::ClusterFile& cluster,
                          const ClusterMember& me);
  absl::Status ReserveGpu(const RankMemory& need);
  absl::Status Load(const internal::ClusterFile& cluster, const ClusterMember& me);
  ModelOptions MakeModelOptions() const;
  ExchangeOptions MakeExchangeOptions(const internal::ClusterFile& cluster) const;
  EngineOptions MakeEngineOptions(const internal::ClusterFile& cluster) const;
  absl::Status JoinShards(const internal::ClusterFile& cluster, const ClusterMember& me);
  absl::Status StartEngine(const internal::ClusterFile& cluster);
  // The engine if requests can be served now.
  absl::StatusOr<Engine*> ReadyEngine() const;
  void Describe(internal::MemberDescription& description) const;

  ModelConfig config_;
  Numerics numerics_;
  std::string numerics_id_;
  int num_draft_tokens_ = 0;
  int64_t kv_cache_tokens_ = 0;
  int max_context_tokens_ = 0;
  int max_failed_shards_ = 0;
  int64_t max_request_bytes_ = 0;
  std::atomic<int64_t> loaded_bytes_ = 0;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> loaded_ = false;  // everything below is there and stays
  Fingerprint fingerprint_;

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;  // null if the folder has none
  std::unique_ptr<ExpertDirectory> directory_;
  std::unique_ptr<RankExchange> exchange_;   // null for a dense model
  std::unique_ptr<ShardWatch> shard_watch_;  // null for a dense model
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<MemberService> member_;
  std::unique_ptr<AttentionService> service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Monitor> monitor_;  // last: it looks at the others
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_ATTENTION_SERVER_H_
