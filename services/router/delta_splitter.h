// Token ids of an answer, one by one, into typed deltas: reasoning up to </think>, content behind
// it.
//
//   DeltaSplitter splitter(&model.tokenizer, model.markers, stop_ids, prompt.starts_in_thinking);
//   SplitDelta delta = splitter.Append(id, /*is_last=*/false);    // {kReasoning, "57+68"}
//
// One delta per token, and all text is in them: there is nothing to come when the answer has ended.
// Markers and stop ids carry no text of their own; bytes of an unfinished character wait for the rest of
// it, and come out as U+FFFD at a marker, where a stop string cuts, or at the last token. Texts are what
// the model wrote, white space included: the answer behind "</think>\n" begins with "\n".
//
// Markers count by their ids: a model that writes the letters of "</think>" switches nothing.
// Threads: one stream, one owner.
#ifndef ORRERY_SERVICES_ROUTER_DELTA_SPLITTER_H_
#define ORRERY_SERVICES_ROUTER_DELTA_SPLITTER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/tokenizer.h"
#include "proto/orrery.pb.h"
#include "services/router/served_model.h"

namespace orrery {

struct SplitDelta {
  v1::DeltaKind kind = v1::DELTA_KIND_CONTENT;
  std::string text;
};

class DeltaSplitter {
 public:
  // `tokenizer` must outlive the splitter.
  DeltaSplitter(const Tokenizer* tokenizer, const ThinkingMarkers& markers,
                std::vector<int32_t> stop_ids, bool starts_in_thinking);

  // The next token; `is_last` if no text can follow it. `text_bytes`: how many of its bytes belong to
  // the text, where a stop string cut it; then no text follows either.
  SplitDelta Append(int32_t id, bool is_last, std::optional<int> text_bytes = std::nullopt);

  // Tokens so far that belong to the thinking, markers included.
  int num_reasoning_tokens() const { return num_reasoning_tokens_; }

 private:
  std::string Cut(int32_t id, int text_bytes);
  // Text held back so far; the next character starts afresh.
  std::string Flush();

  const Tokenizer* tokenizer_;
  const ThinkingMarkers markers_;
  const std::vector<int32_t> stop_ids_;
  DetokenizerStream stream_;
  bool in_thinking_;
  int num_reasoning_tokens_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_DELTA_SPLITTER_H_
