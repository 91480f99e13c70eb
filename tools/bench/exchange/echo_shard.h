// A shard that does no work: answers each frame at once, with bytes that mean nothing. What remains
// of an exchange with it is the exchange.
//
//   ASSIGN_OR_RETURN(auto shard, EchoShard::Start({.exchange = ..., .address = "127.0.0.1:7420",
//                                                  .bare_address = "127.0.0.1:7421",
//                                                  .tls_address = "127.0.0.1:7422", .tls = tls}));
//
// It listens as expert shards do, on TCP, on a Unix socket and in shared memory, at tls_address with TLS, and at
// bare_address for bare streams (bare_stream.h). Frames are served as services/expert/serve_loop.h
// does: by the thread that brought them, or by a loop.
#ifndef ORRERY_TOOLS_BENCH_EXCHANGE_ECHO_SHARD_H_
#define ORRERY_TOOLS_BENCH_EXCHANGE_ECHO_SHARD_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "exchange/exchange.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/shm/shm_listener.h"
#include "rpc/server.h"
#include "tools/bench/bare_stream/bare_stream.h"

namespace orrery {

// Answers the frames of any exchange, from construction to destruction.
class EchoLoop {
 public:
  EchoLoop(ShardExchange* exchange, const ExchangeOptions& options);
  ~EchoLoop();

 private:
  bool ServeOne();
  void ServeNext();

  ShardExchange* const exchange_;
  const size_t result_bytes_;
  std::atomic<bool> stopping_ = false;
  std::mutex at_work_;
  std::vector<EntryState> states_;  // whose at_work_ is
  std::vector<std::byte> results_;
  std::thread thread_;
};

struct EchoShardOptions {
  ExchangeOptions exchange;
  std::string address;
  std::string bare_address;
  std::string tls_address;
  TlsFiles tls;
};

class EchoShard {
 public:
  static absl::StatusOr<std::unique_ptr<EchoShard>> Start(const EchoShardOptions& options);

 private:
  EchoShard() = default;

  BareEchoService bare_;
  std::unique_ptr<GrpcShardExchange> exchange_;
  std::unique_ptr<ShmListener> shm_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Server> bare_server_;
  std::unique_ptr<Server> tls_server_;
  std::unique_ptr<EchoLoop> loop_;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_EXCHANGE_ECHO_SHARD_H_
