// Frames through a ring of bytes in shared memory: one writer, one reader, who trusts neither.
//
//   RingWriter writer(place);                     RingReader reader(place);
//   writer.Write(frame)        true               reader.Read()      the frame
//   if (writer.ReaderSleeps()) ring its bell      reader.Read()      nullopt: empty
//                                                 if (reader.Sleep()) wait for the bell
//
//   data   ... | length, 0 | bytes ... | zeros to a multiple of 8 | length, 0 | ...
//                ^ head: the reader is here                                     ^ tail: the writer
//
// head and tail count bytes since the start and are taken modulo the size, a power of two. Each side
// keeps its own in memory of its own and only publishes it; the other's is checked against it each
// time it is read. Lengths are read once and checked, frames are copied out before anybody looks
// into them. So whatever the other process writes, at whatever moment, nothing outside of the ring
// is touched, and the worst is garbage in a frame.
//
// Marks say who wants to be woken up. Each is set before its owner looks one last time, and looked
// at after what it waits for was published, all of it sequentially consistent: no wake-up is lost,
// and none is sent to who is awake.
//
// It does not wait, and does not know what wakes the other side.
// Threads: one at a time for each side.
// Errors: DATA_LOSS if the other side wrote what it cannot have written in good faith; the
// connection should end.
#ifndef ORRERY_EXCHANGE_SHM_RING_H_
#define ORRERY_EXCHANGE_SHM_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace orrery {

// A cache line for each side.
struct RingControl {
  alignas(64) std::atomic<uint64_t> tail{0};  // the writer's, as the next
  std::atomic<uint32_t> writer_waits{0};      // for room
  alignas(64) std::atomic<uint64_t> head{0};  // the reader's, as the next
  std::atomic<uint32_t> reader_sleeps{1};     // until a frame comes
};
static_assert(sizeof(RingControl) == 128);
static_assert(std::atomic<uint64_t>::is_always_lock_free &&
                  std::atomic<uint32_t>::is_always_lock_free,
              "a lock would lie in one process only");

// Where a ring lies.
struct RingPlace {
  RingControl* control = nullptr;
  std::byte* data = nullptr;
  size_t size = 0;  // of data; a power of two, at least 16
};

class RingWriter {
 public:
  explicit RingWriter(RingPlace place) : place_(place) {}
  // False, and nothing is written, if there is no room now.
  absl::StatusOr<bool> Write(std::string_view frame);
  // Behind Write: whether the reader has to be woken up. Says so once.
  bool ReaderSleeps();
  // After Write said false: wants to be woken up when there is room; to be tried once more now.
  void AwaitRoom() { place_.control->writer_waits.store(1); }

 private:
  void Put(uint64_t position, std::string_view bytes);

  const RingPlace place_;
  uint64_t tail_ = 0;
};

class RingReader {
 public:
  explicit RingReader(RingPlace place) : place_(place) {}
  // The next frame; nullopt if there is none now.
  absl::StatusOr<std::optional<std::string>> Read();
  // Behind Read: whether the writer has to be woken up. Says so once.
  bool WriterWaits();
  // After Read said nullopt: wants to be woken up. False if a frame came meanwhile: read on.
  bool Sleep();

 private:
  const RingPlace place_;
  uint64_t head_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_RING_H_
