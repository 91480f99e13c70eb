#include "tools/answer_printer.h"

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace orrery {
namespace {

constexpr v1::DeltaKind kThinking = v1::DELTA_KIND_REASONING;
constexpr v1::DeltaKind kAnswer = v1::DELTA_KIND_CONTENT;

std::string Shown(const std::vector<std::pair<v1::DeltaKind, std::string>>& deltas) {
  std::FILE* const file = std::tmpfile();
  Terminal out(file);
  AnswerPrinter printer(&out);
  for (const auto& [kind, text] : deltas) {
    v1::Delta delta;
    delta.set_kind(kind);
    delta.set_text(text);
    printer.Print(delta);
  }
  printer.Finish();
  std::rewind(file);
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

TEST(AnswerPrinter, MarksEveryLineOfTheThinking) {
  EXPECT_EQ(Shown({{kThinking, "7+"},
                   {kThinking, "8\n1"},
                   {kThinking, "5\n"},
                   {kThinking, ""},
                   {kAnswer, "\n"},
                   {kAnswer, "15"}}),
            "[thinking] 7+8\n[thinking] 15\n15\n");
}

TEST(AnswerPrinter, StartsTheAnswerOnALineOfItsOwn) {
  EXPECT_EQ(Shown({{kThinking, "hm"}, {kAnswer, "yes\n\nno"}}), "[thinking] hm\nyes\n\nno\n");
}

TEST(AnswerPrinter, ShowsAnAnswerWithoutThinkingAsItIs) {
  EXPECT_EQ(Shown({{kAnswer, "a\n"}, {kAnswer, "b\n"}}), "a\nb\n");
  EXPECT_EQ(Shown({}), "");
}

TEST(SavingsNote, SaysOnlyWhatWasSaved) {
  v1::Usage usage;
  usage.set_prompt_tokens(1000);
  EXPECT_EQ(SavingsNote(usage), "");
  usage.set_cached_prompt_tokens(960);
  EXPECT_EQ(SavingsNote(usage), ", 960 of 1000 prompt tokens cached");
  usage.set_drafted_tokens(24);
  usage.set_accepted_draft_tokens(20);
  EXPECT_EQ(SavingsNote(usage), ", 960 of 1000 prompt tokens cached, 20 of 24 drafts right");
}

TEST(TrimmedContent, LosesOnlyLeadingNewlines) {
  EXPECT_EQ(TrimmedContent("\n\n a\n"), " a\n");
  EXPECT_EQ(TrimmedContent("\n"), "");
}

}  // namespace
}  // namespace orrery
