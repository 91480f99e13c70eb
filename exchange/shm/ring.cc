#include "exchange/shm/ring.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "exchange/exchange.h"

namespace orrery {
namespace {

constexpr size_t kLengthBytes = 8;

constexpr uint64_t RecordBytes(size_t frame_bytes) {
  return kLengthBytes + ((frame_bytes + 7) & ~size_t{7});
}

}  // namespace

absl::StatusOr<bool> RingWriter::Write(std::string_view frame) {
  const uint64_t head = place_.control->head.load();
  const uint64_t used = tail_ - head;
  if (used > place_.size) {
    return absl::DataLossError(absl::StrCat("ring of ", place_.size, " bytes: the reader is at ",
                                            head, ", the writer at ", tail_));
  }
  const uint64_t record_bytes = RecordBytes(frame.size());
  if (record_bytes > place_.size - used) return false;
  const uint64_t length = frame.size();
  Put(tail_, {reinterpret_cast<const char*>(&length), sizeof(length)});
  Put(tail_ + kLengthBytes, frame);
  tail_ += record_bytes;
  place_.control->tail.store(tail_);
  return true;
}

void RingWriter::Put(uint64_t position, std::string_view bytes) {
  const size_t begin = position & (place_.size - 1);
  const size_t before_end = std::min(bytes.size(), place_.size - begin);
  std::memcpy(place_.data + begin, bytes.data(), before_end);
  std::memcpy(place_.data, bytes.data() + before_end, bytes.size() - before_end);
}

bool RingWriter::ReaderSleeps() {
  // Looked at first: usually nobody sleeps, and a load leaves the reader its cache line.
  return place_.control->reader_sleeps.load() != 0 &&
         place_.control->reader_sleeps.exchange(0) != 0;
}

absl::StatusOr<std::optional<std::string>> RingReader::Read() {
  const uint64_t tail = place_.control->tail.load();
  const uint64_t available = tail - head_;
  if (available == 0) return std::nullopt;
  if (available > place_.size || available < kLengthBytes) {
    return absl::DataLossError(absl::StrCat("ring of ", place_.size, " bytes: the writer is at ",
                                            tail, ", the reader at ", head_));
  }
  const size_t begin = head_ & (place_.size - 1);  // a multiple of 8: the length is in one piece
  uint64_t length;
  std::memcpy(&length, place_.data + begin, sizeof(length));
  // The compiler may not read it again between the checks and the copy.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (length == 0 || length > kMaxFrameBytes || RecordBytes(length) > available) {
    return absl::DataLossError(absl::StrCat("ring: frame of ", length, " bytes, ", available,
                                            " are there, the limit is ", kMaxFrameBytes));
  }
  const size_t data = (begin + kLengthBytes) & (place_.size - 1);
  const size_t before_end = std::min<size_t>(length, place_.size - data);
  std::string frame;
  frame.reserve(length);
  frame.append(reinterpret_cast<const char*>(place_.data + data), before_end);
  frame.append(reinterpret_cast<const char*>(place_.data), length - before_end);
  head_ += RecordBytes(length);
  place_.control->head.store(head_);
  return frame;
}

bool RingReader::WriterWaits() {
  return place_.control->writer_waits.load() != 0 && place_.control->writer_waits.exchange(0) != 0;
}

bool RingReader::Sleep() {
  place_.control->reader_sleeps.store(1);
  return place_.control->tail.load() == head_;
}

}  // namespace orrery
