#include "tools/answer_printer.h"

#include "absl/strings/str_format.h"

namespace orrery {

void AnswerPrinter::Print(const v1::Delta& delta) {
  if (delta.text().empty()) return;
  if (delta.kind() == v1::DELTA_KIND_REASONING) {
    PrintReasoning(delta.text());
  } else {
    PrintContent(delta.text());
  }
}

void AnswerPrinter::PrintReasoning(const std::string& text) {
  has_reasoning_ = true;
  const std::string prefix = out_->is_tty() ? out_->Dim("  | ") : "[thinking] ";
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', begin);
    const bool ends_line = newline != std::string::npos;
    const std::string piece = text.substr(begin, ends_line ? newline - begin : std::string::npos);
    // Empty lines are left out, so that the thinking stays one block.
    if (!piece.empty()) {
      if (at_line_start_) out_->Print(prefix);
      out_->Print(out_->Dim(piece));
      at_line_start_ = false;
    }
    if (ends_line && !at_line_start_) {
      out_->Print("\n");
      at_line_start_ = true;
    }
    begin = ends_line ? newline + 1 : text.size();
  }
}

void AnswerPrinter::PrintContent(const std::string& text) {
  std::string shown = text;
  if (!has_content_) {
    shown = TrimmedContent(text);
    if (shown.empty()) return;
    if (has_reasoning_ && !at_line_start_) out_->Print("\n");
    has_content_ = true;
  }
  out_->Print(shown);
  at_line_start_ = shown.back() == '\n';
}

void AnswerPrinter::Finish() {
  if (!at_line_start_) out_->Print("\n");
  at_line_start_ = true;
}

std::string SpeedLine(int num_tokens, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return absl::StrFormat("%d tokens in %.2f s (%.0f tokens/s)", num_tokens, seconds,
                         seconds > 0.0 ? num_tokens / seconds : 0.0);
}

std::string SavingsNote(const v1::Usage& usage) {
  std::string note;
  if (usage.cached_prompt_tokens() > 0) {
    absl::StrAppendFormat(&note, ", %d of %d prompt tokens cached", usage.cached_prompt_tokens(),
                          usage.prompt_tokens());
  }
  if (usage.drafted_tokens() > 0) {
    absl::StrAppendFormat(&note, ", %d of %d drafts right", usage.accepted_draft_tokens(),
                          usage.drafted_tokens());
  }
  return note;
}

std::string TrimmedContent(const std::string& content) {
  const size_t begin = content.find_first_not_of('\n');
  return begin == std::string::npos ? "" : content.substr(begin);
}

}  // namespace orrery
