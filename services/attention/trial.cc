#include "services/attention/trial.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {

bool Trial::Witness::has_contradicted_itself() const {
  return std::any_of(answers.begin(), answers.end(),
                     [this](int answer) { return answer != answers.front(); });
}

Trial::Trial(const Case& of) : heirs_(of.heirs) {
  for (const Testimony* testimony : {&of.first, &of.second}) {
    if (witnesses_.empty() || witnesses_[0].shard != testimony->shard) {
      witnesses_.push_back({.shard = testimony->shard, .is_accused = true});
    }
    Hear(witnesses_.back(), testimony->result);
  }
  for (const int holder : of.holders) witnesses_.push_back({.shard = holder});
  Judge();
  if (!is_over_) BeginRound();
}

Trial::Witness& Trial::Find(int shard) {
  const auto found =
      std::find_if(witnesses_.begin(), witnesses_.end(),
                   [shard](const Witness& witness) { return witness.shard == shard; });
  ORRERY_CHECK(found != witnesses_.end() && found->is_asked)
      << "shard " << shard << " is not asked";
  return *found;
}

void Trial::Hear(Witness& witness, absl::Span<const std::byte> result) {
  const auto known = std::find_if(answers_.begin(), answers_.end(), [&](const auto& answer) {
    return absl::MakeConstSpan(answer) == result;
  });
  witness.answers.push_back(static_cast<int>(known - answers_.begin()));
  if (known == answers_.end()) answers_.emplace_back(result.begin(), result.end());
}

std::vector<int> Trial::Next(absl::Time now) {
  std::vector<int> asks;
  for (Witness& witness : witnesses_) {
    if (!witness.is_wanted || witness.is_asked || witness.ask_at > now) continue;
    witness.is_asked = true;
    asks.push_back(witness.shard);
  }
  return asks;
}

absl::Time Trial::wake_at() const {
  absl::Time at = absl::InfiniteFuture();
  for (const Witness& witness : witnesses_) {
    if (witness.is_wanted && !witness.is_asked) at = std::min(at, witness.ask_at);
  }
  return at;
}

void Trial::OnAnswer(int shard, absl::Span<const std::byte> result) {
  Witness& witness = Find(shard);
  Hear(witness, result);
  witness.is_wanted = witness.is_asked = false;
  EndRoundIfOver();
}

void Trial::OnLoading(int shard, absl::Time again_at) {
  Witness& witness = Find(shard);
  witness.is_asked = false;
  witness.ask_at = again_at;
}

void Trial::OnSilent(int shard) {
  Witness& witness = Find(shard);
  witness.is_wanted = witness.is_asked = false;
  witness.is_silent = true;
  EndRoundIfOver();
}

void Trial::EndRoundIfOver() {
  for (const Witness& witness : witnesses_) {
    if (witness.is_wanted) return;
  }
  Judge();
  if (!is_over_) BeginRound();
}

void Trial::BeginRound() {
  if (round_++ == kMaxRounds) {
    is_over_ = true;
    return;
  }
  if (round_ > 1 && NumHeard() < 3 && !heirs_.empty()) {
    witnesses_.push_back({.shard = heirs_.front()});
    heirs_.erase(heirs_.begin());
  }
  is_over_ = true;  // unless there is somebody to ask
  for (Witness& witness : witnesses_) {
    witness.is_wanted = !witness.is_silent && (witness.is_accused || witness.answers.empty());
    if (witness.is_wanted) is_over_ = false;
  }
}

void Trial::Judge() {
  for (const Witness& witness : witnesses_) {
    if (!witness.has_contradicted_itself()) continue;
    convictions_.push_back({witness.shard, absl::StrCat("it gave different answers when asked ",
                                                        witness.answers.size(), " times")});
  }
  const int majority = convictions_.empty() ? MajorityAnswer() : -1;
  for (const Witness& witness : witnesses_) {
    if (majority < 0 || witness.answers.empty() || witness.answers[0] == majority) continue;
    const auto num_against =
        std::count_if(witnesses_.begin(), witnesses_.end(), [&](const Witness& other) {
          return !other.answers.empty() && other.answers[0] == majority;
        });
    convictions_.push_back(
        {witness.shard, absl::StrCat(num_against, " others agree on another answer")});
  }
  if (!convictions_.empty()) is_over_ = true;
}

int Trial::MajorityAnswer() const {
  if (NumHeard() < 3) return -1;
  std::vector<int> votes(answers_.size());
  for (const Witness& witness : witnesses_) {
    if (!witness.answers.empty()) ++votes[witness.answers[0]];
  }
  const auto most = std::max_element(votes.begin(), votes.end());
  const bool is_alone = std::count(votes.begin(), votes.end(), *most) == 1;
  return *most >= 2 && is_alone ? static_cast<int>(most - votes.begin()) : -1;
}

int Trial::NumHeard() const {
  return static_cast<int>(std::count_if(witnesses_.begin(), witnesses_.end(),
                                        [](const Witness& w) { return !w.answers.empty(); }));
}

}  // namespace orrery
