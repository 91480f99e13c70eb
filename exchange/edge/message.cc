#include "exchange/edge/message.h"

#include "xxhash.h"

namespace orrery {

uint64_t RowsHash(std::string_view rows) { return XXH3_64bits(rows.data(), rows.size()); }

absl::StatusOr<MessageView> ParseMessage(std::string_view bytes) {
  MessageView view;
  if (bytes.size() < sizeof(view.header)) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: length ", bytes.size(),
                                                   ", the header takes ", sizeof(view.header)));
  }
  std::memcpy(&view.header, bytes.data(), sizeof(view.header));
  view.body = bytes.substr(sizeof(view.header));
  if (view.header.version != kMessageVersion) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: version ",
                                                   view.header.version, ", this side speaks ",
                                                   kMessageVersion));
  }
  if (view.header.num_row_bytes > kMaxFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("malformed message: ", view.header.num_row_bytes,
                                                   " bytes of rows, at most ", kMaxFrameBytes));
  }
  return view;
}

}  // namespace orrery
