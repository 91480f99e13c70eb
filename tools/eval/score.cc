#include "tools/eval/score.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "checkpoint/fingerprint.h"

namespace orrery {
namespace {

constexpr size_t kMaxDifferingShown = 10;

template <typename T>
void AppendBytes(const std::vector<T>& values, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

double Percent(int part, int whole) { return whole == 0 ? 0.0 : 100.0 * part / whole; }

std::string Row(const std::string& name, const FamilyScore& score) {
  return absl::StrFormat(
      "%-12s %8d %8d  %6.2f %%   %8d / %-8d %6.2f %%\n", name, score.num_problems, score.num_right,
      Percent(score.num_right, score.num_problems), score.num_same_ids, score.num_with_reference,
      Percent(score.num_same_ids, score.num_with_reference));
}

}  // namespace

void Scores::Add(const Problem& problem, const ExamAnswer& answer) {
  FamilyScore& family = families_[problem.family];
  ++family.num_problems;
  family.num_right += answer.is_finished && answer.content == problem.answer;
  // The count first, so that the digest sees where one answer ends and the next begins.
  AppendBytes(std::vector<uint64_t>{answer.ids.size()}, bytes_);
  AppendBytes(answer.ids, bytes_);
  AppendBytes(answer.logprobs, bytes_);
  if (!problem.prompt_ids.empty() && answer.prompt_ids != problem.prompt_ids) {
    ++num_wrong_prompts_;
    differing_.push_back(absl::StrCat("problem ", problem.id, ": the prompt has other ids"));
  }
  if (problem.reference_ids.empty() || problem.min_top2_gap <= kClearGap) return;
  ++family.num_with_reference;
  if (answer.ids == problem.reference_ids) {
    ++family.num_same_ids;
  } else {
    differing_.push_back(absl::StrCat("problem ", problem.id, " (", problem.family,
                                      "): other ids; it says \"", answer.content, "\""));
  }
}

FamilyScore Scores::total() const {
  FamilyScore total;
  for (const auto& [name, family] : families_) {
    total.num_problems += family.num_problems;
    total.num_right += family.num_right;
    total.num_with_reference += family.num_with_reference;
    total.num_same_ids += family.num_same_ids;
  }
  return total;
}

bool Scores::agrees() const {
  const FamilyScore all = total();
  return num_wrong_prompts_ == 0 && all.num_same_ids == all.num_with_reference;
}

std::string Scores::Digest() const {
  return ContentHash({reinterpret_cast<const std::byte*>(bytes_.data()), bytes_.size()});
}

std::string Scores::ToString() const {
  std::string text = absl::StrFormat("%-12s %8s %8s  %8s   %19s %8s\n", "family", "problems",
                                     "right", "", "reference's ids", "");
  for (const auto& [name, family] : families_) text += Row(name, family);
  text += Row("all", total());
  for (size_t i = 0; i < differing_.size() && i < kMaxDifferingShown; ++i)
    absl::StrAppend(&text, differing_[i], "\n");
  if (differing_.size() > kMaxDifferingShown) {
    absl::StrAppend(&text, "... and ", differing_.size() - kMaxDifferingShown, " more differ\n");
  }
  absl::StrAppend(&text, "digest of all ids and log-probabilities: ", Digest(), "\n");
  return text;
}

}  // namespace orrery
