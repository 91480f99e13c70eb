// What the exchange itself costs per layer: a rank's Dispatch and Combine with a shard in another
// process that does no work, over every transport, beside the bare stream underneath.
//
//   ASSIGN_OR_RETURN(ExchangeBenchResult result, RunExchangeBench(options));
//
// All in one run, in turns, so that what else the machine does hits all alike: in every round each
// way exchanges some times and has as many bare round trips of the same bytes. Times are medians,
// ratios medians of the ratios within the rounds.
#ifndef ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_BENCH_H_
#define ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_BENCH_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "exchange/exchange.h"
#include "rpc/tls/tls_files.h"

namespace orrery {

// The v3-mini shape: bf16 rows of 2,048 numbers, six experts per row, all held by one shard.
struct ExchangeShape {
  size_t row_bytes = 2 * 2048;
  size_t result_bytes = 2 * 2048;
  int topk = 6;
};
ExchangeOptions ExchangeOptionsOf(const ExchangeShape& shape);

struct ExchangeBenchOptions {
  ExchangeShape shape;
  std::vector<int> rows = {1, 8, 64};
  int num_rounds = 40;
  // Where the shard's process listens (echo_shard.h), once it runs.
  std::string address;
  std::string bare_address;
  std::string tls_address;
  TlsFiles tls;  // of the rank
  std::function<void(const struct ExchangeFigures&)> on_figures = nullptr;
};

struct ExchangeFigures {
  std::string way;  // "grpc-tcp", "grpc-tls", "grpc-unix", "shm", "loopback"
  int num_rows = 0;
  size_t bytes_out = 0;  // of all frames
  size_t bytes_back = 0;
  double exchange_us = 0.0;
  double fastest_us = 0.0;  // the medians of the fastest and the slowest round
  double slowest_us = 0.0;
  // Where there is a stream underneath.
  std::optional<double> bare_us;
  std::optional<double> ratio;
  std::optional<double> over_shm;  // of gRPC: this exchange's time over that of shared memory
  std::optional<double> over_tcp;  // with TLS: over that of TCP without
};

struct ExchangeTarget {
  std::string text;
  double value = 0.0;
  bool held = false;
};

struct ExchangeBenchResult {
  std::vector<ExchangeFigures> figures;
  std::vector<ExchangeTarget> targets;
  bool held() const;
};

// UNAVAILABLE if the shard's process is not there.
absl::StatusOr<ExchangeBenchResult> RunExchangeBench(const ExchangeBenchOptions& options);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_BENCH_H_
