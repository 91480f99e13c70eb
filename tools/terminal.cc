#include "tools/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_format.h"

namespace orrery {
namespace {

bool WantsColours() {
  const char* const no_color = std::getenv("NO_COLOR");
  const char* const term = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') &&
         (term == nullptr || std::strcmp(term, "dumb") != 0);
}

}  // namespace

Terminal::Terminal(std::FILE* file)
    : file_(file), is_tty_(isatty(fileno(file)) == 1), has_colours_(is_tty_ && WantsColours()) {}

void Terminal::ShowProgress(const std::string& line) {
  if (!is_tty_) return;
  // Carriage return, the line, erase what is left of the old one.
  std::fprintf(file_, "\r%s\x1b[K", line.c_str());
  std::fflush(file_);
  progress_is_shown_ = true;
}

void Terminal::ClearProgress() {
  if (!progress_is_shown_) return;
  std::fputs("\r\x1b[K", file_);
  std::fflush(file_);
  progress_is_shown_ = false;
}

std::string Terminal::Styled(const char* code, const std::string& text) const {
  if (!has_colours_ || text.empty()) return text;
  return absl::StrCat("\x1b[", code, "m", text, "\x1b[0m");
}

void Terminal::Write(const std::string& text) {
  ClearProgress();
  std::fwrite(text.data(), 1, text.size(), file_);
  std::fflush(file_);
}

std::string ProgressLine(const Progress& progress, int bar_width) {
  const double fraction =
      progress.total <= 0
          ? 0.0
          : std::clamp(static_cast<double>(progress.done) / static_cast<double>(progress.total),
                       0.0, 1.0);
  const int num_full = static_cast<int>(fraction * bar_width);
  const bool is_bytes = progress.unit == "bytes";
  const double scale = is_bytes ? 1e-6 : 1.0;
  const int digits = is_bytes ? 1 : 0;
  std::string line = absl::StrFormat(
      "%s  [%s%s]  %.*f/%.*f %s", progress.label, std::string(num_full, '#'),
      std::string(bar_width - num_full, '-'), digits, static_cast<double>(progress.done) * scale,
      digits, static_cast<double>(progress.total) * scale, is_bytes ? "MB" : progress.unit);
  const double seconds = absl::ToDoubleSeconds(progress.elapsed);
  if (progress.done <= 0 || seconds <= 0.0) return line;
  const double rate = static_cast<double>(progress.done) / seconds;
  absl::StrAppendFormat(&line, "  %.1f%s/s", rate * scale, is_bytes ? " MB" : "");
  if (progress.total > progress.done) {
    absl::StrAppendFormat(&line, "  %.0f s left",
                          static_cast<double>(progress.total - progress.done) / rate);
  }
  return line;
}

}  // namespace orrery
