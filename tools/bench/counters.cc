#include "tools/bench/counters.h"

namespace orrery {
namespace {

struct Counter {
  const char* name;
  int64_t (v1::MemberStatus::*value)() const;
  bool is_gauge = false;
};

constexpr Counter kCounters[] = {
    {"tokens_in", &v1::MemberStatus::tokens_in},
    {"tokens_out", &v1::MemberStatus::tokens_out},
    {"prefix_hit_tokens", &v1::MemberStatus::prefix_hit_tokens},
    {"prefix_miss_tokens", &v1::MemberStatus::prefix_miss_tokens},
    {"kv_evictions", &v1::MemberStatus::kv_evictions},
    {"preemptions", &v1::MemberStatus::preemptions},
    {"drafted_tokens", &v1::MemberStatus::drafted_tokens},
    {"accepted_draft_tokens", &v1::MemberStatus::accepted_draft_tokens},
    {"frames", &v1::MemberStatus::frames},
    {"frame_groups", &v1::MemberStatus::frame_groups},
    {"kv_blocks_leaked", &v1::MemberStatus::kv_blocks_leaked, true},
    {"kv_blocks_used", &v1::MemberStatus::kv_blocks_used, true},
    {"kv_blocks_cached", &v1::MemberStatus::kv_blocks_cached, true},
};

}  // namespace

Counters CountersOf(const v1::ClusterStatusResponse& status) {
  Counters counters;
  for (const Counter& counter : kCounters) {
    int64_t& sum = counters[counter.name];
    for (const v1::MemberStatus& member : status.member()) sum += (member.*counter.value)();
  }
  return counters;
}

Counters CounterChange(const Counters& before, const Counters& after) {
  Counters change = after;
  for (const Counter& counter : kCounters) {
    const auto earlier = before.find(counter.name);
    if (!counter.is_gauge && earlier != before.end()) change[counter.name] -= earlier->second;
  }
  return change;
}

int64_t NumOpen(const v1::ClusterStatusResponse& status) {
  int64_t sum = 0;
  for (const v1::MemberStatus& member : status.member()) {
    sum += member.running_requests() + member.waiting_requests();
  }
  return sum;
}

}  // namespace orrery
