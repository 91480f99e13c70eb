// One stretch of load, and what was seen of it: plain data between the generator, which writes it,
// and the figures, which are computed from it.
//
//   start     window.begin                         window.end
//     |  warm-up   |   arrivals here are measured      |  (the rest ends, or is cut off)
//
// Rates count what happens inside the window, whichever request it belongs to; latencies are those
// of the requests that arrived in it.
#ifndef ORRERY_TOOLS_BENCH_PHASE_H_
#define ORRERY_TOOLS_BENCH_PHASE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "proto/orrery.pb.h"
#include "tools/bench/load.h"

namespace orrery {

struct Phase {
  std::string name = {};
  std::vector<Load> loads;
  absl::Duration warmup = absl::ZeroDuration();
  // One of the two is positive: so many measured requests of each load, or so long.
  int64_t num_requests = 0;
  absl::Duration duration = absl::ZeroDuration();
  // At the end of `duration`, what still runs is cut off; else it is waited for.
  bool cut_at_end = false;
  uint64_t seed = 0;
};

struct RequestRecord {
  // When it was due: by the arrival process, or, in a closed loop, when its client became free.
  absl::Time arrival;
  absl::Time sent;
  // When each token came.
  std::vector<absl::Time> tokens;
  absl::Time end;
  absl::Status status;
  // As asked for.
  int prompt_tokens = 0;
  int output_tokens = 0;
  v1::Usage usage;
  bool is_measured = false;
  // The generator itself ended it: the client was to go away, or the phase was over.
  bool was_cut = false;
};

struct LoadRecord {
  Load load;
  std::vector<RequestRecord> requests;
  // Due in the window, but never sent: max_concurrency was open all the time.
  int64_t num_unsent = 0;
};

struct Window {
  absl::Time begin;
  absl::Time end;
  bool Contains(absl::Time time) const { return begin <= time && time < end; }
  double seconds() const { return absl::ToDoubleSeconds(end - begin); }
};

struct PhaseRecord {
  Window window;
  std::vector<LoadRecord> loads;  // as in Phase
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_PHASE_H_
