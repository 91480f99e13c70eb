#include "services/router/delta_splitter.h"

#include <algorithm>
#include <utility>

namespace orrery {

DeltaSplitter::DeltaSplitter(const Tokenizer* tokenizer, const ThinkingMarkers& markers,
                             std::vector<int32_t> stop_ids, bool starts_in_thinking)
    : tokenizer_(tokenizer),
      markers_(markers),
      stop_ids_(std::move(stop_ids)),
      stream_(tokenizer, SpecialTokens::kSkip),
      in_thinking_(starts_in_thinking) {}

SplitDelta DeltaSplitter::Append(int32_t id, bool is_last, std::optional<int> text_bytes) {
  const bool opens = id == markers_.open;
  const bool closes = id == markers_.close;
  const bool was_in_thinking = in_thinking_;
  const bool is_reasoning = was_in_thinking || opens || closes;
  if (is_reasoning) ++num_reasoning_tokens_;
  if (opens) in_thinking_ = true;
  if (closes) in_thinking_ = false;

  std::string text;
  if (opens || closes || std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end()) {
    text = Flush();
  } else {
    text = text_bytes.has_value() ? Cut(id, *text_bytes) : stream_.Append(id);
    if (is_last || text_bytes.has_value()) text += Flush();
  }
  // What a marker flushes was written before it, so it belongs to the kind before it.
  const bool as_reasoning = text.empty() ? is_reasoning : was_in_thinking;
  return {.kind = as_reasoning ? v1::DELTA_KIND_REASONING : v1::DELTA_KIND_CONTENT,
          .text = std::move(text)};
}

std::string DeltaSplitter::Cut(int32_t id, int text_bytes) {
  if (text_bytes <= 0 || tokenizer_->IsSpecial(id)) return "";
  return stream_.AppendBytes(tokenizer_->TokenBytes(id).substr(0, text_bytes));
}

std::string DeltaSplitter::Flush() {
  std::string text = stream_.Finish();
  stream_ = DetokenizerStream(tokenizer_, SpecialTokens::kSkip);
  return text;
}

}  // namespace orrery
