#include "exchange/conformance.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "absl/time/clock.h"

namespace orrery {
namespace {

constexpr size_t kRowBytes = 20;
constexpr size_t kResultBytes = 36;
constexpr std::byte kUntouched{0xee};

// What a shard makes of a row: any function of (layer, expert, row) does.
void ExpertFunction(int layer, int expert, absl::Span<const std::byte> row,
                    absl::Span<std::byte> result) {
  for (size_t i = 0; i < result.size(); ++i) {
    result[i] = static_cast<std::byte>(static_cast<int>(row[i % row.size()]) + 7 * expert + layer +
                                       static_cast<int>(i));
  }
}

}  // namespace

ExchangeOptions SmallRows() {
  return {.numerics_id = "f32/test", .row_bytes = kRowBytes, .result_bytes = kResultBytes};
}

absl::Time Far() { return absl::Now() + absl::Minutes(2); }

InboundGroup ReceiveGroup(ShardExchange& shard) {
  std::optional<InboundGroup> group = shard.Receive(Far());
  EXPECT_TRUE(group.has_value());
  return group.value_or(InboundGroup());
}

InboundFrame ReceiveOne(ShardExchange& shard) {
  InboundGroup group = ReceiveGroup(shard);
  EXPECT_EQ(group.size(), 1u);
  return group.empty() ? InboundFrame() : std::move(group[0]);
}

void Answer(ShardExchange& shard, const ExchangeOptions& options, const InboundFrame& frame,
            const StateOf& state_of, uint32_t eta_ms) {
  std::vector<EntryState> states(frame.entries.size(), EntryState::kDone);
  std::vector<std::byte> results(states.size() * options.result_bytes);
  for (size_t i = 0; i < states.size(); ++i) {
    const auto [row, expert] = frame.entries[i];
    if (state_of) states[i] = state_of(frame.layer, expert);
    ExpertFunction(frame.layer, expert, {frame.rows + row * options.row_bytes, options.row_bytes},
                   absl::MakeSpan(results).subspan(i * options.result_bytes, options.result_bytes));
  }
  shard.Reply(frame, {.states = states, .results = results, .eta_ms = eta_ms});
}

ServingShard::ServingShard(ShardExchange& shard, const ExchangeOptions& options, StateOf state_of,
                           uint32_t eta_ms)
    : shard_(shard), thread_([this, options, state_of, eta_ms] {
        while (const std::optional<InboundGroup> group = shard_.Receive(Far())) {
          for (const InboundFrame& frame : *group) {
            num_frames_ += 1;
            EXPECT_EQ(frame.layer, group->front().layer);
            Answer(shard_, options, frame, state_of, eta_ms);
          }
        }
      }) {}

int ServingShard::Stop() {
  shard_.Close();
  if (thread_.joinable()) thread_.join();
  return num_frames_;
}

Work::Work(const ExchangeOptions& options, RoutedShape shape, std::vector<int> holders, int seed)
    : options(options), shape(shape), holders(std::move(holders)) {
  std::mt19937 rng(seed);
  rows.resize(shape.num_rows * options.row_bytes);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(rng());
  for (int row = 0; row < shape.num_rows; ++row) {
    std::vector<int32_t> ids(this->holders.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::shuffle(ids.begin(), ids.end(), rng);
    expert_ids.insert(expert_ids.end(), ids.begin(), ids.begin() + shape.topk);
  }
  plan = PlanRows(shape, expert_ids, this->holders).dispatch;
  results.assign(expert_ids.size() * options.result_bytes, kUntouched);
}

void Work::ExpectResults(int layer, const std::function<bool(int expert)>& done) const {
  std::vector<std::byte> expected(options.result_bytes);
  for (size_t i = 0; i < expert_ids.size(); ++i) {
    std::fill(expected.begin(), expected.end(), kUntouched);
    if (!done || done(expert_ids[i])) {
      ExpertFunction(layer, expert_ids[i],
                     {rows.data() + i / shape.topk * options.row_bytes, options.row_bytes},
                     absl::MakeSpan(expected));
    }
    EXPECT_TRUE(
        std::equal(expected.begin(), expected.end(), results.begin() + i * options.result_bytes))
        << "result " << i << " of expert " << expert_ids[i];
  }
}

void ExpectAll(const CombineReport& report, size_t num_entries, EntryState state) {
  EXPECT_EQ(report.size(), num_entries);
  for (const EntryOutcome& outcome : report) EXPECT_EQ(outcome.state, state);
}

std::unique_ptr<Cluster> ExchangeTest::Make(const ClusterSpec& spec) {
  std::unique_ptr<Cluster> cluster = GetParam().make(spec);
  for (int rank = 0; rank < spec.num_ranks; ++rank) {
    for (int shard = 0; shard < spec.num_shards; ++shard) {
      EXPECT_TRUE(cluster->rank(rank).AwaitConnected(shard, Far()));
    }
  }
  return cluster;
}

void ExchangeTest::ExpectDone(RankExchange& rank, Ticket ticket, Work& work, int layer) {
  EXPECT_TRUE(rank.Combine(ticket, Far(), absl::MakeSpan(work.results)).empty());
  work.ExpectResults(layer);
}

}  // namespace orrery
