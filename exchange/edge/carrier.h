// What rows go by beside a channel: NCCL, or CUDA IPC. One for a process; it makes this side's half of each
// edge.
//
//   rank                                        shard
//   Make(kRank, half), half.words ------------> Make(kShard, half), Meet(those words)
//   Meet(these words) <------------------------ half.words
//
// Errors of Make: as it likes; they are told to the other side, and the edge stays on its channel for now.
// Threads: safe. Make may take its time, and is called without a lock.
#ifndef ORRERY_EXCHANGE_EDGE_CARRIER_H_
#define ORRERY_EXCHANGE_EDGE_CARRIER_H_

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "exchange/edge/pipe.h"

namespace orrery {

enum class EdgeRole { kRank, kShard };

struct Half {
  std::unique_ptr<Pipe> out, in;
  std::string words;  // for the other side's movers to meet
};

class Carrier {
 public:
  virtual ~Carrier() = default;
  // As RankExchange::carrier says it: "nccl".
  virtual std::string_view name() const = 0;
  // What both sides must have alike, for people too: "nccl 2.28.9".
  virtual std::string terms() const = 0;
  // Whether a sender writes into the receiver's slots, so that it must be told when they are free.
  virtual bool is_one_sided() const = 0;
  // What it made before it failed is in `half`, too.
  virtual absl::Status Make(EdgeRole role, Half& half) = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_CARRIER_H_
