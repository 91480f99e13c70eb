// Parts of a step that are the same for every batch of one shape: done as they are the first time,
// captured the second, replayed ever after.
//
//   Replays replays(&stream);
//   RETURN_IF_ERROR(replays.Run({.layer = 3, .part = kAttention, .shape = places.shape()}, [&] {
//     kernels.RmsNorm(...);        // whatever differs between two batches of the shape must stand
//     ...                          // in memory, at the same addresses: see kernels/row_places.h
//   }));
//
// A stream that captures nothing (the host's) does the work each time. Captured or not, the calls are
// the same, and so are the bits.
//
// The first time is not captured because launching a kernel for the first time may load it, which a
// capture forbids; and because shapes that come once are not worth it.
//
// Memory: the stream's, for as many graphs as it has room for; then work is done as it is.
// Threads: belongs to its step. Errors: of Capture, but for RESOURCE_EXHAUSTED.
#ifndef ORRERY_SERVICES_ATTENTION_REPLAYS_H_
#define ORRERY_SERVICES_ATTENTION_REPLAYS_H_

#include <compare>
#include <map>
#include <memory>

#include "absl/functional/function_ref.h"
#include "base/status.h"
#include "device/device.h"
#include "kernels/row_places.h"

namespace orrery {

class Replays {
 public:
  struct Key {
    int layer = 0;
    int part = 0;
    BatchShape shape;
    const void* cache = nullptr;  // where the layer's begins

    auto operator<=>(const Key&) const = default;
  };

  explicit Replays(Stream* stream) : stream_(stream) {}

  // A key whose shape has no rows is never captured.
  absl::Status Run(const Key& key, absl::FunctionRef<void()> work);
  int num_graphs() const { return num_graphs_; }

 private:
  Stream* stream_;
  std::map<Key, std::unique_ptr<Graph>> graphs_;  // null: the work was seen once
  int num_graphs_ = 0;
  bool is_full_ = false;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_REPLAYS_H_
