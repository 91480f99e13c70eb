#include "services/attention/replays.h"

#include <utility>

#include "base/log.h"

namespace orrery {

absl::Status Replays::Run(const Key& key, absl::FunctionRef<void()> work) {
  if (!stream_->can_capture() || key.shape.num_rows == 0) {
    work();
    return absl::OkStatus();
  }
  const auto [entry, is_new] = graphs_.try_emplace(key);
  std::unique_ptr<Graph>& graph = entry->second;
  if (graph == nullptr && !is_new && !is_full_) {
    absl::StatusOr<std::unique_ptr<Graph>> captured = stream_->Capture([&] { work(); });
    if (captured.ok()) {
      graph = *std::move(captured);
      ++num_graphs_;
    } else if (absl::IsResourceExhausted(captured.status())) {
      is_full_ = true;
      LogWarning("no more graphs after ", num_graphs_, ": ",
                 std::string(captured.status().message()));
    } else {
      return captured.status();
    }
  }
  if (graph != nullptr) {
    stream_->Replay(*graph);
  } else {
    work();
  }
  return absl::OkStatus();
}

}  // namespace orrery
