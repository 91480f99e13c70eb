// Byte layout of the frames between ranks and shards. Little-endian; every part starts at a
// multiple of 16.
//
//   0            48                                                    Round16(48 + entries)
//   +------------+------------------------------------------+~~~~~~~~~+-------------------------+
//   | FrameHeader| dispatch: num_entries * {row, expert}    | zeros   | num_rows * row_bytes    |
//   |            | reply:    num_entries * state (one byte) |         |                         |
//   +------------+------------------------------------------+~~~~~~~~~+-------------------------+
//   | FrameHeader|  abandon: the header is all
//   +------------+
//
// Rows of a dispatch are the rows that its entries name, each once. Rows of a reply are the results
// of the entries that are kDone, in their order; row_bytes is then the size of a result. The frame
// ends with its last row.
//
// An abandon follows the dispatches of its ticket through the same channel: those that still wait
// at the shard need no answer. It concerns frames of this channel only, and has no answer itself.
//
// Parsing trusts nothing: lengths, counts and indices are checked, and no byte outside the frame is
// read. It does not know what is in a row, and moves no frame (exchange/channel.h).
//
// Errors: INVALID_ARGUMENT, saying which field, which value and which limit.
#ifndef ORRERY_EXCHANGE_FRAME_H_
#define ORRERY_EXCHANGE_FRAME_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "exchange/exchange.h"

namespace orrery {

static_assert(std::endian::native == std::endian::little,
              "frames are written as they lie in memory");

inline constexpr uint32_t kFrameMagic = 0x5752524f;  // "ORRW"
inline constexpr uint16_t kFrameVersion = 3;

enum class FrameKind : uint8_t { kDispatch = 1, kReply = 2, kAbandon = 3 };

// A reply repeats ticket, frame_index, layer, lane and numerics_hash of the dispatch that it
// answers.
struct FrameHeader {
  uint32_t magic = kFrameMagic;
  uint16_t version = kFrameVersion;
  FrameKind kind = FrameKind::kDispatch;
  Lane lane = Lane::kDecode;
  uint32_t ticket_slot = 0;
  uint32_t ticket_generation = 0;
  uint32_t frame_index = 0;  // of its ticket
  uint32_t layer = 0;
  uint32_t num_rows = 0;
  uint32_t num_entries = 0;
  uint32_t row_bytes = 0;
  uint32_t eta_ms = 0;  // of a reply: see FrameAnswer
  uint64_t numerics_hash = 0;
};
static_assert(sizeof(FrameHeader) == 48);
static_assert(offsetof(FrameHeader, kind) == 6 && offsetof(FrameHeader, lane) == 7);
static_assert(offsetof(FrameHeader, ticket_slot) == 8);
static_assert(offsetof(FrameHeader, num_rows) == 24);
static_assert(offsetof(FrameHeader, numerics_hash) == 40);

struct DispatchEntryBytes {
  uint32_t row = 0;
  uint32_t expert = 0;
};
static_assert(sizeof(DispatchEntryBytes) == 8);

constexpr size_t RoundUpTo16(size_t bytes) { return (bytes + 15) & ~size_t{15}; }
constexpr size_t DispatchRowsOffset(size_t num_entries) {
  return RoundUpTo16(sizeof(FrameHeader) + num_entries * sizeof(DispatchEntryBytes));
}
constexpr size_t ReplyRowsOffset(size_t num_entries) {
  return RoundUpTo16(sizeof(FrameHeader) + num_entries);
}

// XXH3, 64 bits: frames carry it in place of the id.
uint64_t NumericsHash(std::string_view numerics_id);

// Cuts the entries for one peer (by ascending row) into runs whose dispatch frame, and whose reply
// with every entry done, both fit max_frame_bytes. A frame must have room for one entry; see
// CheckExchangeOptions.
struct FrameLimits {
  size_t row_bytes = 0;
  size_t result_bytes = 0;
  size_t max_frame_bytes = kMaxFrameBytes;
};
std::vector<absl::Span<const DispatchEntry>> SplitIntoFrames(
    absl::Span<const DispatchEntry> entries, const FrameLimits& limits);
// INVALID_ARGUMENT if a size is 0, a frame cannot hold one entry, or a queue cannot hold one frame.
absl::Status CheckExchangeOptions(const ExchangeOptions& options);

// Fills in kind, num_rows and num_entries. Entries as SplitIntoFrames gives them; their rows are
// gathered from rows + entry.row * header.row_bytes.
std::string EncodeDispatch(FrameHeader header, absl::Span<const DispatchEntry> entries,
                           const std::byte* rows);
// The answer to a dispatch with this header. Results: of all entries, also those that are not done.
std::string EncodeReply(const FrameHeader& dispatch, const FrameAnswer& answer,
                        size_t result_bytes);
// What gives up the ticket of a dispatch with this header; only lane, ticket and numerics_hash of
// it count.
std::string EncodeAbandon(const FrameHeader& dispatch);

// How many bytes of rows a frame of this side's own making ends with.
size_t NumRowBytes(std::string_view frame);

// Views into the parsed bytes, which must outlive them.
struct DispatchView {
  FrameHeader header;
  std::vector<InboundFrame::Entry> entries;
  const std::byte* rows = nullptr;
};
struct ReplyView {
  FrameHeader header;
  std::vector<EntryState> states;
  const std::byte* results = nullptr;  // of the kDone entries only
};
absl::StatusOr<DispatchView> ParseDispatch(std::string_view bytes);
absl::StatusOr<ReplyView> ParseReply(std::string_view bytes);
// Whether the bytes claim to be an abandon; if not they may still be anything.
bool LooksLikeAbandon(std::string_view bytes);
absl::StatusOr<FrameHeader> ParseAbandon(std::string_view bytes);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_FRAME_H_
