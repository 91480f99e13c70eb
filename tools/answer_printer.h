// Shows an answer while it is made, its thinking visibly apart: dim and indented on a terminal,
// elsewhere each line of it behind "[thinking] ".
//
//   AnswerPrinter printer(&out);
//   client.Generate(request, timeout,
//                   [&](const v1::Delta& delta) { printer.Print(delta); return true; });
//   printer.Finish();
//
// Only white space at the border between the two is changed.
#ifndef ORRERY_TOOLS_ANSWER_PRINTER_H_
#define ORRERY_TOOLS_ANSWER_PRINTER_H_

#include <string>

#include "proto/orrery.pb.h"
#include "tools/terminal.h"

namespace orrery {

class AnswerPrinter {
 public:
  // `out` must outlive it.
  explicit AnswerPrinter(Terminal* out) : out_(out) {}

  void Print(const v1::Delta& delta);
  // Ends the last line.
  void Finish();

 private:
  void PrintReasoning(const std::string& text);
  void PrintContent(const std::string& text);

  Terminal* const out_;
  bool at_line_start_ = true;
  bool has_content_ = false;
  bool has_reasoning_ = false;
};

// "37 tokens in 1.2 s (31 tokens/s)".
std::string SpeedLine(int num_tokens, absl::Duration elapsed);

// What made it fast, where something did: ", 960 of 1000 prompt tokens cached, 20 of 24 drafts
// right".
std::string SavingsNote(const v1::Usage& usage);

// The answer without the white space that the border leaves before it: what belongs into a
// conversation's next turn.
std::string TrimmedContent(const std::string& content);

}  // namespace orrery

#endif  // ORRERY_TOOLS_ANSWER_PRINTER_H_
