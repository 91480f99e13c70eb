// What two processes of one node share through CUDA IPC: device memory of one that the other writes into, and
// events of the writer that say when it has.
//
//   writer                                              reader
//   SentEvents, made at start ---- WindowWords -------> PeerEvents::Open(words)
//   PeerWindow::Open(words) <----- WindowWords -------- its own slots
//
// Each side writes and reads, so one WindowWords for each side says both.
//
// Memory and events that others may have open are neither freed nor destroyed before the process lets go of its
// layer: until then their slots only change hands.
//
// Errors: INTERNAL, naming the call and CUDA's word for what happened; INVALID_ARGUMENT for words that make no
// sense.
// Threads: one at a time; SentEvents: safe.
#ifndef ORRERY_EXCHANGE_CUDA_IPC_WINDOW_H_
#define ORRERY_EXCHANGE_CUDA_IPC_WINDOW_H_

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "exchange/edge/slots.h"

namespace orrery {

//   0        64             72                    104                          360
//   +--------+--------------+---------------------+----------------------------+
//   | window | window_bytes | begin of each slot  | event of each sending slot |
//   +--------+--------------+---------------------+----------------------------+
struct WindowWords {
  cudaIpcMemHandle_t window = {};  // of the memory in which the slots lie
  uint64_t window_bytes = 0;
  std::array<uint64_t, kSlotsPerPipe> slot_begin = {};
  std::array<cudaIpcEventHandle_t, kSlotsPerPipe> sent = {};
};
static_assert(sizeof(cudaIpcMemHandle_t) == 64 && sizeof(cudaIpcEventHandle_t) == 64);
static_assert(sizeof(WindowWords) == 360 && offsetof(WindowWords, sent) == 104);

absl::StatusOr<WindowWords> ParseWindowWords(std::string_view words);

// An event for each sending slot of a process, by Slot::index.
class SentEvents {
 public:
  static absl::StatusOr<std::shared_ptr<SentEvents>> Make(int device_index, int num_slots);
  ~SentEvents();
  cudaEvent_t event(const Slot& slot) const { return events_[slot.index]; }
  const cudaIpcEventHandle_t& handle(const Slot& slot) const { return handles_[slot.index]; }

 private:
  explicit SentEvents(int device_index) : device_index_(device_index) {}

  const int device_index_;
  std::vector<cudaEvent_t> events_;
  std::vector<cudaIpcEventHandle_t> handles_;
};

// Slots of the other process, to write into.
class PeerWindow {
 public:
  static absl::StatusOr<std::unique_ptr<PeerWindow>> Open(int device_index,
                                                          const WindowWords& words);
  ~PeerWindow();
  std::byte* slot(int slot) const { return begin_ + slot_begin_[slot]; }  // [kSlotBytes]

 private:
  PeerWindow() = default;

  int device_index_ = 0;
  std::byte* begin_ = nullptr;
  std::array<uint64_t, kSlotsPerPipe> slot_begin_ = {};
};

// Events of the other process.
class PeerEvents {
 public:
  static absl::StatusOr<std::unique_ptr<PeerEvents>> Open(int device_index,
                                                          const WindowWords& words);
  ~PeerEvents();
  // Whether what the other process last put into the slot is there. Asked only after the words that it
  // sends behind that.
  absl::StatusOr<bool> IsSent(int slot) const;

 private:
  PeerEvents() = default;

  int device_index_ = 0;
  std::array<cudaEvent_t, kSlotsPerPipe> events_ = {};
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_CUDA_IPC_WINDOW_H_
