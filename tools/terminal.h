// What the tools write to people: colours and progress bars on a terminal, plain text elsewhere.
//
//   Terminal out(stdout);
//   out.Print(out.Dim("thinking"), "\n");
//   const Progress progress = {.label = "loading", .done = 12, .total = 40, .elapsed = elapsed};
//   out.ShowProgress(ProgressLine(progress, 40));
//   out.ClearProgress();
//
// Colours only if the file is a terminal, NO_COLOR (https://no-color.org) is not set and TERM is
// not "dumb".
// Threads: one owner.
#ifndef ORRERY_TOOLS_TERMINAL_H_
#define ORRERY_TOOLS_TERMINAL_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace orrery {

class Terminal {
 public:
  // `file` must outlive it.
  explicit Terminal(std::FILE* file);

  bool is_tty() const { return is_tty_; }

  template <typename... Parts>
  void Print(const Parts&... parts) {
    Write(absl::StrCat(parts...));
  }

  std::string Dim(const std::string& text) const { return Styled("2", text); }
  std::string Bold(const std::string& text) const { return Styled("1", text); }
  std::string Red(const std::string& text) const { return Styled("31", text); }
  std::string Green(const std::string& text) const { return Styled("32", text); }

  // Replaces the line at the cursor. Nothing unless on a terminal.
  void ShowProgress(const std::string& line);
  void ClearProgress();

 private:
  std::string Styled(const char* code, const std::string& text) const;
  // Clears a progress line first, and flushes.
  void Write(const std::string& text);

  std::FILE* const file_;
  const bool is_tty_;
  const bool has_colours_;
  bool progress_is_shown_ = false;
};

struct Progress {
  std::string label;
  int64_t done = 0;
  int64_t total = 0;
  absl::Duration elapsed;
  // What is counted; bytes are shown in MB.
  std::string unit;
};

// "loading  [#####-----]  12/40 problems  3.1/s  9 s left", the bar `bar_width` characters wide.
std::string ProgressLine(const Progress& progress, int bar_width);

}  // namespace orrery

#endif  // ORRERY_TOOLS_TERMINAL_H_
