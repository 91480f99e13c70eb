#include "tools/bench/exchange/exchange_bench.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "exchange/frame.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/loopback/loopback.h"
#include "exchange/shm/shm_rank.h"
#include "tools/bench/bare_stream/bare_stream.h"
#include "tools/bench/exchange/echo_shard.h"

namespace orrery {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr int kNumWarmUpRounds = 3;
constexpr double kMaxOverBare = 1.3;
constexpr double kMinOverShm = 3.0;
constexpr char kTcp[] = "grpc-tcp", kTls[] = "grpc-tls", kUnix[] = "grpc-unix", kShm[] = "shm";

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// One layer's work of a rank: all of its rows to the one shard.
struct Layer {
  Layer(const ExchangeShape& shape, int num_rows)
      : num_rows(num_rows),
        rows(num_rows * shape.row_bytes, std::byte{1}),
        results(num_rows * shape.topk * shape.result_bytes) {
    PeerEntries all;
    for (int row = 0; row < num_rows; ++row) {
      for (int i = 0; i < shape.topk; ++i) {
        all.entries.push_back({.row = row, .expert = i, .result = row * shape.topk + i});
      }
    }
    const FrameLimits limits = {.row_bytes = shape.row_bytes, .result_bytes = shape.result_bytes};
    for (const absl::Span<const DispatchEntry> frame : SplitIntoFrames(all.entries, limits)) {
      const size_t frame_rows = frame.back().row - frame.front().row + 1;
      frames.push_back(
          {.bytes_out = DispatchRowsOffset(frame.size()) + frame_rows * shape.row_bytes,
           .bytes_back = ReplyRowsOffset(frame.size()) + frame.size() * shape.result_bytes});
    }
    plan.push_back(std::move(all));
  }

  const int num_rows;
  DispatchPlan plan;
  std::vector<BareStream::Sizes> frames;
  std::vector<std::byte> rows;
  std::vector<std::byte> results;
};

// One way from the rank to the shard.
struct Way {
  std::string name;
  std::unique_ptr<RankExchange> own_exchange = nullptr;  // null for loopback
  RankExchange* exchange = nullptr;
  std::unique_ptr<BareStream> bare = nullptr;  // null where there is none
  // One per round.
  std::vector<double> exchange_us = {};
  std::vector<double> bare_us = {};
  std::vector<double> ratios = {};
};

absl::StatusOr<double> ExchangeOnce(Way& way, Layer& layer) {
  const absl::Time begin = absl::Now();
  ASSIGN_OR_RETURN(const Ticket ticket,
                   way.exchange->Dispatch(0, Lane::kDecode, layer.plan, layer.rows));
  const CombineReport report =
      way.exchange->Combine(ticket, begin + kPatience, absl::MakeSpan(layer.results));
  const absl::Duration time = absl::Now() - begin;
  if (!report.empty()) {
    return absl::UnavailableError(absl::StrCat(way.name, ": ", report.size(), " entries in state ",
                                               static_cast<int>(report[0].state)));
  }
  return absl::ToDoubleMicroseconds(time);
}

// The frames of a layer one by one: a floor for a single one, more than that for several, which the
// exchange has under way at once.
absl::StatusOr<double> BareOnce(Way& way, const Layer& layer) {
  double us = 0.0;
  for (const BareStream::Sizes& frame : layer.frames) {
    ASSIGN_OR_RETURN(const absl::Duration time, way.bare->RoundTrip(frame));
    us += absl::ToDoubleMicroseconds(time);
  }
  return us;
}

absl::Status Round(Way& way, Layer& layer, bool counts) {
  // As long for many rows as for few.
  const int burst = std::clamp(60 / layer.num_rows, 5, 30);
  std::vector<double> exchange, bare;
  for (int i = 0; i < burst; ++i) {
    ASSIGN_OR_RETURN(exchange.emplace_back(), ExchangeOnce(way, layer));
  }
  for (int i = 0; i < burst && way.bare != nullptr; ++i) {
    ASSIGN_OR_RETURN(bare.emplace_back(), BareOnce(way, layer));
  }
  if (!counts) return absl::OkStatus();
  way.exchange_us.push_back(Median(exchange));
  if (way.bare == nullptr) return absl::OkStatus();
  way.bare_us.push_back(Median(bare));
  way.ratios.push_back(way.exchange_us.back() / way.bare_us.back());
  return absl::OkStatus();
}

double RatioOf(const std::vector<double>& over, const std::vector<double>& under) {
  std::vector<double> ratios(over.size());
  std::transform(over.begin(), over.end(), under.begin(), ratios.begin(), std::divides<>());
  return Median(std::move(ratios));
}

class Bench {
 public:
  explicit Bench(const ExchangeBenchOptions& options) : options_(options) {}

  absl::Status Open() {
    const ExchangeOptions exchange = ExchangeOptionsOf(options_.shape);
    const auto grpc = [&](const std::string& address) {
      return GrpcRankOptions{
          .exchange = exchange, .rank_name = "bench", .peers = {{"shard", address}}};
    };
    Way tcp = {.name = kTcp};
    GrpcRankOptions over_tcp = grpc(options_.address);
    over_tcp.local_sockets = false;
    ASSIGN_OR_RETURN(tcp.own_exchange, MakeGrpcRankExchange(over_tcp));
    ASSIGN_OR_RETURN(tcp.bare, BareStream::Open(options_.bare_address, /*local=*/false));
    RETURN_IF_ERROR(Add(std::move(tcp)));
    Way tls = {.name = kTls};
    GrpcRankOptions over_tls = grpc(options_.tls_address);
    over_tls.tls = options_.tls;
    ASSIGN_OR_RETURN(tls.own_exchange, MakeGrpcRankExchange(over_tls));
    RETURN_IF_ERROR(Add(std::move(tls)));
    Way unix_socket = {.name = kUnix};
    ASSIGN_OR_RETURN(unix_socket.own_exchange, MakeGrpcRankExchange(grpc(options_.address)));
    ASSIGN_OR_RETURN(unix_socket.bare, BareStream::Open(options_.bare_address, /*local=*/true));
    RETURN_IF_ERROR(Add(std::move(unix_socket)));
    Way shm = {.name = kShm};
    ASSIGN_OR_RETURN(shm.own_exchange, MakeShmRankExchange({.exchange = exchange,
                                                            .rank_name = "bench",
                                                            .shard_names = {options_.address}}));
    RETURN_IF_ERROR(Add(std::move(shm)));
    ASSIGN_OR_RETURN(loopback_, Loopback::Create({.num_ranks = 1, .num_shards = 1}, exchange));
    loop_ = std::make_unique<EchoLoop>(&loopback_->shard(0), exchange);
    ways_.push_back({.name = "loopback", .exchange = &loopback_->rank(0)});
    return absl::OkStatus();
  }

  absl::Status Measure(int num_rows, std::vector<ExchangeFigures>& figures) {
    Layer layer(options_.shape, num_rows);
    for (Way& way : ways_) {
      way.exchange_us.clear();
      way.bare_us.clear();
      way.ratios.clear();
    }
    for (int round = -kNumWarmUpRounds; round < options_.num_rounds; ++round) {
      for (Way& way : ways_) RETURN_IF_ERROR(Round(way, layer, /*counts=*/round >= 0));
    }
    for (const Way& way : ways_) {
      ExchangeFigures& row = figures.emplace_back();
      row.way = way.name;
      row.num_rows = num_rows;
      for (const BareStream::Sizes& frame : layer.frames) {
        row.bytes_out += frame.bytes_out;
        row.bytes_back += frame.bytes_back;
      }
      row.exchange_us = Median(way.exchange_us);
      const auto [fastest, slowest] =
          std::minmax_element(way.exchange_us.begin(), way.exchange_us.end());
      row.fastest_us = *fastest;
      row.slowest_us = *slowest;
      if (way.bare != nullptr) {
        row.bare_us = Median(way.bare_us);
        row.ratio = Median(way.ratios);
      }
      if (way.name == kTcp || way.name == kTls || way.name == kUnix) {
        row.over_shm = RatioOf(way.exchange_us, TimesOf(kShm));
      }
      if (way.name == kTls) row.over_tcp = RatioOf(way.exchange_us, TimesOf(kTcp));
      if (options_.on_figures) options_.on_figures(row);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Add(Way way) {
    way.exchange = way.own_exchange.get();
    if (!way.exchange->AwaitConnected(0, absl::Now() + kPatience)) {
      return absl::UnavailableError(absl::StrCat(way.name, ": nobody answers"));
    }
    ways_.push_back(std::move(way));
    return absl::OkStatus();
  }

  const std::vector<double>& TimesOf(const std::string& name) const {
    return std::find_if(ways_.begin(), ways_.end(),
                        [&](const Way& way) { return way.name == name; })
        ->exchange_us;
  }

  const ExchangeBenchOptions& options_;
  std::unique_ptr<Loopback> loopback_;
  std::unique_ptr<EchoLoop> loop_;
  std::vector<Way> ways_;
};

std::vector<ExchangeTarget> Judge(const std::vector<ExchangeFigures>& figures) {
  std::vector<ExchangeTarget> targets;
  for (const ExchangeFigures& row : figures) {
    if (row.num_rows != 1 || !row.ratio.has_value()) continue;
    targets.push_back({.text = absl::StrCat(row.way,
                                            " at one row: times the bare stream's round "
                                            "trip, at most ",
                                            kMaxOverBare),
                       .value = *row.ratio,
                       .held = *row.ratio <= kMaxOverBare});
    targets.push_back(
        {.text = absl::StrCat(row.way, " at one row: times shared memory, at least ", kMinOverShm),
         .value = *row.over_shm,
         .held = *row.over_shm >= kMinOverShm});
  }
  return targets;
}

}  // namespace

ExchangeOptions ExchangeOptionsOf(const ExchangeShape& shape) {
  return {.numerics_id = "bench", .row_bytes = shape.row_bytes, .result_bytes = shape.result_bytes};
}

bool ExchangeBenchResult::held() const {
  return std::all_of(targets.begin(), targets.end(),
                     [](const ExchangeTarget& target) { return target.held; });
}

absl::StatusOr<ExchangeBenchResult> RunExchangeBench(const ExchangeBenchOptions& options) {
  Bench bench(options);
  RETURN_IF_ERROR(bench.Open());
  ExchangeBenchResult result;
  for (const int num_rows : options.rows) {
    RETURN_IF_ERROR(bench.Measure(num_rows, result.figures));
  }
  result.targets = Judge(result.figures);
  return result;
}

}  // namespace orrery
