#include "tools/check/invariance/reference.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace orrery {

std::vector<Setting> Reference::PlainSettings(const std::vector<Setting>& settings) {
  const auto any = [&](auto predicate) {
    return std::any_of(settings.begin(), settings.end(), predicate);
  };
  std::vector<Setting> plain;
  if (any([](const Setting& s) { return s.sampling != Setting::kSeeded; })) plain.push_back({});
  if (any([](const Setting& s) { return s.sampling != Setting::kGreedy; })) {
    plain.push_back({.sampling = Setting::kSeeded});
  }
  if (any([](const Setting& s) { return s.sampling != Setting::kGreedy && s.n > 1; })) {
    plain.push_back({.sampling = Setting::kSeeded, .n = 3});
  }
  return plain;
}

absl::Status Reference::Add(const Setting& plain, const Answers& answers) {
  std::vector<AnswerRecord>& records = plain.sampling == Setting::kGreedy ? greedy_
                                       : plain.n == 1                     ? seeded_
                                                                          : seeded_choices_;
  for (size_t i = 0; i < answers.size(); ++i) {
    if (!answers[i].ok()) {
      return absl::Status(
          answers[i].status().code(),
          absl::StrCat(FormatSetting(plain), ": request ", i, " has no answer to compare with: ",
                       std::string(answers[i].status().message())));
    }
    records.push_back(*answers[i]);
  }
  return absl::OkStatus();
}

const ChoiceRecord* Reference::Find(int request, bool seeded, int choice) const {
  const std::vector<AnswerRecord>& records = !seeded       ? greedy_
                                             : choice == 0 ? seeded_
                                                           : seeded_choices_;
  if (request >= static_cast<int>(records.size())) return nullptr;
  const std::vector<ChoiceRecord>& choices = records[request].choices;
  const int index = seeded ? choice : 0;
  return index < static_cast<int>(choices.size()) ? &choices[index] : nullptr;
}

std::vector<std::string> Reference::Compare(const Setting& setting, const Answers& answers) const {
  std::vector<std::string> differences;
  for (int request = 0; request < static_cast<int>(answers.size()); ++request) {
    if (!answers[request].ok()) {
      differences.push_back(
          absl::StrCat("request ", request, ": ", answers[request].status().ToString()));
      continue;
    }
    const std::vector<ChoiceRecord>& choices = answers[request]->choices;
    for (int choice = 0; choice < static_cast<int>(choices.size()); ++choice) {
      const ChoiceRecord* expected = Find(request, setting.IsSeeded(request), choice);
      if (expected == nullptr) continue;  // this is the run that gives it
      const std::string difference = FirstDifference(choices[choice], *expected);
      if (difference.empty()) continue;
      differences.push_back(
          absl::StrCat("request ", request, ", choice ", choice, ", ", difference));
      break;
    }
  }
  return differences;
}

}  // namespace orrery
