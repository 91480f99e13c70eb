#include "exchange/frame.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "xxhash.h"

namespace orrery {
namespace {

constexpr uint32_t kMaxIndex = std::numeric_limits<int32_t>::max();

const std::byte* Bytes(std::string_view bytes) {
  return reinterpret_cast<const std::byte*>(bytes.data());
}

absl::Status Malformed(std::string_view what, uint64_t value, std::string_view limit_is,
                       uint64_t limit) {
  return absl::InvalidArgumentError(absl::StrCat("malformed frame: ", std::string(what), " ", value,
                                                 ", ", std::string(limit_is), " ", limit));
}

// What the header promises. 32-bit counts, so nothing here overflows 64 bits.
uint64_t TotalBytes(const FrameHeader& header) {
  const uint64_t row_bytes = uint64_t{header.num_rows} * header.row_bytes;
  switch (header.kind) {
    case FrameKind::kDispatch:
      return DispatchRowsOffset(header.num_entries) + row_bytes;
    case FrameKind::kReply:
      return ReplyRowsOffset(header.num_entries) + row_bytes;
    case FrameKind::kAbandon:
      break;
  }
  return sizeof(FrameHeader);
}

// The checks that all kinds share; the length is checked against what the header promises.
absl::StatusOr<FrameHeader> ParseHeader(std::string_view bytes, FrameKind kind) {
  if (bytes.size() < sizeof(FrameHeader)) {
    return Malformed("length", bytes.size(), "the header takes", sizeof(FrameHeader));
  }
  if (bytes.size() > kMaxFrameBytes) {
    return Malformed("length", bytes.size(), "the limit is", kMaxFrameBytes);
  }
  FrameHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kFrameMagic) return Malformed("magic", header.magic, "not", kFrameMagic);
  if (header.version != kFrameVersion) {
    return Malformed("version", header.version, "this side speaks", kFrameVersion);
  }
  if (header.kind != kind) {
    return Malformed("kind", static_cast<uint8_t>(header.kind), "expected",
                     static_cast<uint8_t>(kind));
  }
  if (static_cast<int>(header.lane) >= kNumLanes) {
    return Malformed("lane", static_cast<uint8_t>(header.lane), "number of lanes", kNumLanes);
  }
  if (header.layer > kMaxIndex) return Malformed("layer", header.layer, "at most", kMaxIndex);
  if (kind == FrameKind::kAbandon) {
    if (header.num_entries > 0) return Malformed("num_entries", header.num_entries, "not", 0);
  } else if (header.num_entries == 0) {
    return Malformed("num_entries", 0, "at least", 1);
  }
  if (header.num_rows > header.num_entries) {
    return Malformed("num_rows", header.num_rows, "at most num_entries", header.num_entries);
  }
  const uint64_t total = TotalBytes(header);
  if (bytes.size() != total) return Malformed("length", bytes.size(), "its header says", total);
  return header;
}

}  // namespace

uint64_t NumericsHash(std::string_view numerics_id) {
  return XXH3_64bits(numerics_id.data(), numerics_id.size());
}

absl::Status CheckExchangeOptions(const ExchangeOptions& options) {
  if (options.row_bytes == 0 || options.result_bytes == 0 || options.max_tickets <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("row_bytes ", options.row_bytes, ", result_bytes ", options.result_bytes,
                     " and max_tickets ", options.max_tickets, " must be positive"));
  }
  constexpr size_t kRoom = kMaxFrameBytes - std::max(DispatchRowsOffset(1), ReplyRowsOffset(1));
  if (options.row_bytes > kRoom || options.result_bytes > kRoom) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a frame of ", kMaxFrameBytes, " bytes has room for a row of ", kRoom,
        ", but row_bytes is ", options.row_bytes, " and result_bytes ", options.result_bytes));
  }
  if (options.max_queued_bytes < kMaxFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("max_queued_bytes ", options.max_queued_bytes,
                                                   " is less than one frame, ", kMaxFrameBytes));
  }
  return absl::OkStatus();
}

std::vector<absl::Span<const DispatchEntry>> SplitIntoFrames(
    absl::Span<const DispatchEntry> entries, const FrameLimits& limits) {
  std::vector<absl::Span<const DispatchEntry>> frames;
  size_t begin = 0, num_rows = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const bool new_row = i == begin || entries[i].row != entries[i - 1].row;
    const size_t num_entries = i + 1 - begin;
    const size_t dispatch_bytes =
        DispatchRowsOffset(num_entries) + (num_rows + new_row) * limits.row_bytes;
    const size_t reply_bytes = ReplyRowsOffset(num_entries) + num_entries * limits.result_bytes;
    if (i > begin && std::max(dispatch_bytes, reply_bytes) > limits.max_frame_bytes) {
      frames.push_back(entries.subspan(begin, i - begin));
      begin = i;
      num_rows = 1;
    } else {
      num_rows += new_row;
    }
  }
  if (begin < entries.size()) frames.push_back(entries.subspan(begin));
  return frames;
}

std::string EncodeDispatch(FrameHeader header, absl::Span<const DispatchEntry> entries,
                           const std::byte* rows) {
  header.kind = FrameKind::kDispatch;
  header.num_entries = static_cast<uint32_t>(entries.size());
  header.num_rows = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    header.num_rows += i == 0 || entries[i].row != entries[i - 1].row;
  }
  const size_t rows_offset = DispatchRowsOffset(entries.size());
  std::string frame(rows_offset + size_t{header.num_rows} * header.row_bytes, '\0');
  std::memcpy(frame.data(), &header, sizeof(header));
  char* entry_out = frame.data() + sizeof(header);
  char* row_out = frame.data() + rows_offset;
  uint32_t num_rows = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i == 0 || entries[i].row != entries[i - 1].row) {
      std::memcpy(row_out, rows + static_cast<size_t>(entries[i].row) * header.row_bytes,
                  header.row_bytes);
      row_out += header.row_bytes;
      ++num_rows;
    }
    const DispatchEntryBytes entry{.row = num_rows - 1,
                                   .expert = static_cast<uint32_t>(entries[i].expert)};
    std::memcpy(entry_out, &entry, sizeof(entry));
    entry_out += sizeof(entry);
  }
  return frame;
}

std::string EncodeReply(const FrameHeader& dispatch, const FrameAnswer& answer,
                        size_t result_bytes) {
  const absl::Span<const EntryState> states = answer.states;
  FrameHeader header = dispatch;
  header.kind = FrameKind::kReply;
  header.num_entries = static_cast<uint32_t>(states.size());
  header.num_rows =
      static_cast<uint32_t>(std::count(states.begin(), states.end(), EntryState::kDone));
  header.row_bytes = static_cast<uint32_t>(result_bytes);
  header.eta_ms = answer.eta_ms;
  const size_t rows_offset = ReplyRowsOffset(states.size());
  std::string frame(rows_offset + header.num_rows * result_bytes, '\0');
  std::memcpy(frame.data(), &header, sizeof(header));
  char* result_out = frame.data() + rows_offset;
  for (size_t i = 0; i < states.size(); ++i) {
    frame[sizeof(header) + i] = static_cast<char>(states[i]);
    if (states[i] != EntryState::kDone) continue;
    std::memcpy(result_out, answer.results.data() + i * result_bytes, result_bytes);
    result_out += result_bytes;
  }
  return frame;
}

std::string EncodeAbandon(const FrameHeader& dispatch) {
  const FrameHeader header{.kind = FrameKind::kAbandon,
                           .lane = dispatch.lane,
                           .ticket_slot = dispatch.ticket_slot,
                           .ticket_generation = dispatch.ticket_generation,
                           .numerics_hash = dispatch.numerics_hash};
  std::string frame(sizeof(header), '\0');
  std::memcpy(frame.data(), &header, sizeof(header));
  return frame;
}

size_t NumRowBytes(std::string_view frame) {
  ORRERY_CHECK(frame.size() >= sizeof(FrameHeader)) << frame.size() << " bytes";
  FrameHeader header;
  std::memcpy(&header, frame.data(), sizeof(header));
  return size_t{header.num_rows} * header.row_bytes;
}

absl::StatusOr<DispatchView> ParseDispatch(std::string_view bytes) {
  DispatchView view;
  ASSIGN_OR_RETURN(view.header, ParseHeader(bytes, FrameKind::kDispatch));
  view.entries.reserve(view.header.num_entries);
  const char* in = bytes.data() + sizeof(FrameHeader);
  for (uint32_t i = 0; i < view.header.num_entries; ++i, in += sizeof(DispatchEntryBytes)) {
    DispatchEntryBytes entry;
    std::memcpy(&entry, in, sizeof(entry));
    if (entry.row >= view.header.num_rows) {
      return Malformed("row index", entry.row, "number of rows", view.header.num_rows);
    }
    if (entry.expert > kMaxIndex) return Malformed("expert", entry.expert, "at most", kMaxIndex);
    view.entries.push_back(
        {.row = static_cast<int32_t>(entry.row), .expert = static_cast<int32_t>(entry.expert)});
  }
  view.rows = Bytes(bytes) + DispatchRowsOffset(view.header.num_entries);
  return view;
}

absl::StatusOr<ReplyView> ParseReply(std::string_view bytes) {
  ReplyView view;
  ASSIGN_OR_RETURN(view.header, ParseHeader(bytes, FrameKind::kReply));
  view.states.reserve(view.header.num_entries);
  uint32_t num_done = 0;
  for (uint32_t i = 0; i < view.header.num_entries; ++i) {
    const uint8_t state = static_cast<uint8_t>(bytes[sizeof(FrameHeader) + i]);
    // kPending and kLost are what a rank concludes, not what a shard says.
    if (state < static_cast<uint8_t>(EntryState::kDone) ||
        state > static_cast<uint8_t>(EntryState::kRefused)) {
      return Malformed("state", state, "at most", static_cast<uint8_t>(EntryState::kRefused));
    }
    view.states.push_back(static_cast<EntryState>(state));
    num_done += view.states.back() == EntryState::kDone;
  }
  if (num_done != view.header.num_rows) {
    return Malformed("num_rows", view.header.num_rows, "entries done", num_done);
  }
  view.results = Bytes(bytes) + ReplyRowsOffset(view.header.num_entries);
  return view;
}

bool LooksLikeAbandon(std::string_view bytes) {
  constexpr size_t kKindOffset = offsetof(FrameHeader, kind);
  return bytes.size() > kKindOffset &&
         static_cast<FrameKind>(bytes[kKindOffset]) == FrameKind::kAbandon;
}

absl::StatusOr<FrameHeader> ParseAbandon(std::string_view bytes) {
  return ParseHeader(bytes, FrameKind::kAbandon);
}

}  // namespace orrery
