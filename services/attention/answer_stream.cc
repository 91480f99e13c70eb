#include "services/attention/answer_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {
namespace {

absl::Status CheckStopStrings(absl::Span<const std::string> strings, const Tokenizer* tokenizer) {
  if (strings.size() > kMaxStopStrings) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop has ", strings.size(), " strings, the limit is ", kMaxStopStrings));
  }
  for (size_t i = 0; i < strings.size(); ++i) {
    if (strings[i].empty() || strings[i].size() > kMaxStopStringBytes) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] has ", strings[i].size(),
                                                     " bytes, it must have 1 to ",
                                                     kMaxStopStringBytes));
    }
  }
  if (!strings.empty() && tokenizer == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop has ", strings.size(),
                     " strings, but this model has no tokenizer to find them with"));
  }
  return absl::OkStatus();
}

absl::Status CheckIds(const char* field, absl::Span<const int32_t> ids, size_t max_ids,
                      int vocab_size) {
  if (ids.size() > max_ids) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " has ", ids.size(), " ids, the limit is ", max_ids));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, "[", i, "] is ", ids[i], ", outside the vocabulary 0..", vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStopRules(const StopRules& rules, int vocab_size, const Tokenizer* tokenizer) {
  if (rules.max_new_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_new_tokens is ", rules.max_new_tokens, ", it must be at least 1"));
  }
  if (rules.min_new_tokens < 0 || rules.min_new_tokens > rules.max_new_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("min_new_tokens is ", rules.min_new_tokens,
                                                   ", it must be 0 to max_new_tokens, which is ",
                                                   rules.max_new_tokens));
  }
  RETURN_IF_ERROR(CheckIds("stop_ids", rules.stop_ids, kMaxStopIds, vocab_size));
  RETURN_IF_ERROR(CheckIds("silent_ids", rules.silent_ids, kMaxSilentIds, vocab_size));
  return CheckStopStrings(rules.stop_strings, tokenizer);
}

StopStringMatcher::StopStringMatcher(absl::Span<const std::string> strings) {
  for (const std::string& text : strings) {
    ORRERY_CHECK(!text.empty()) << "a stop string is empty";
    std::vector<int> borders(text.size() + 1, 0);
    for (size_t n = 2; n <= text.size(); ++n) {
      int border = borders[n - 1];
      while (border > 0 && text[border] != text[n - 1]) border = borders[border];
      borders[n] = text[border] == text[n - 1] ? border + 1 : 0;
    }
    patterns_.push_back({.text = &text, .borders = std::move(borders)});
  }
}

const std::string* StopStringMatcher::Append(char byte) {
  const std::string* complete = nullptr;
  for (Pattern& pattern : patterns_) {
    const std::string& text = *pattern.text;
    int& n = pattern.num_matched;
    while (n > 0 && text[n] != byte) n = pattern.borders[n];
    if (text[n] == byte) ++n;
    if (n < static_cast<int>(text.size())) continue;
    if (complete == nullptr || text.size() > complete->size()) complete = &text;
    n = pattern.borders[n];
  }
  return complete;
}

int StopStringMatcher::num_pending_bytes() const {
  int longest = 0;
  for (const Pattern& pattern : patterns_) longest = std::max(longest, pattern.num_matched);
  return longest;
}

void StopStringMatcher::Reset() {
  for (Pattern& pattern : patterns_) pattern.num_matched = 0;
}

AnswerStream::AnswerStream(const StopRules* rules, const Tokenizer* tokenizer)
    : rules_(rules), tokenizer_(tokenizer), matcher_(rules->stop_strings) {}

absl::Span<const int32_t> AnswerStream::banned_ids() const {
  if (num_tokens_ >= rules_->min_new_tokens) return {};
  return rules_->stop_ids;
}

std::optional<AnswerEnd> AnswerStream::Append(OutputToken token,
                                              std::vector<OutputToken>& released) {
  ORRERY_CHECK(!has_ended_) << "token " << num_tokens_ << " comes behind the end";
  // A stop id is no part of the answer that it ends, so it does not count for min_new_tokens. It
  // can come earlier only if every other id was banned; then it is a token like others.
  const bool is_stop_id = num_tokens_ >= rules_->min_new_tokens &&
                          absl::c_linear_search(rules_->stop_ids, token.token.id);
  token.index = num_tokens_++;
  held_.push_back({.output = std::move(token), .begin = num_bytes_, .end = num_bytes_});
  std::optional<AnswerEnd> end;
  if (is_stop_id) {
    held_.back().output.text_bytes = 0;
    end = AnswerEnd{.reason = EndReason::kStop, .stop_string = ""};
  } else if (const std::string* match = MatchLast()) {
    end = AnswerEnd{.reason = EndReason::kStop, .stop_string = *match};
  } else if (num_tokens_ >= rules_->max_new_tokens) {
    end = AnswerEnd{.reason = EndReason::kLength, .stop_string = ""};
  }
  has_ended_ = end.has_value();
  Release(end ? num_bytes_ : num_bytes_ - matcher_.num_pending_bytes(), released);
  return end;
}

const std::string* AnswerStream::MatchLast() {
  if (rules_->stop_strings.empty()) return nullptr;
  HeldToken& last = held_.back();
  const int32_t id = last.output.token.id;
  if (tokenizer_->IsSpecial(id) || absl::c_linear_search(rules_->silent_ids, id)) {
    matcher_.Reset();
    return nullptr;
  }
  const std::string_view bytes = tokenizer_->TokenBytes(id);
  last.end = num_bytes_ += static_cast<int64_t>(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    const std::string* match = matcher_.Append(bytes[i]);
    if (match == nullptr || num_tokens_ < rules_->min_new_tokens) continue;
    const int64_t cut =
        last.begin + static_cast<int64_t>(i) + 1 - static_cast<int64_t>(match->size());
    for (HeldToken& token : held_) {
      if (token.end <= cut) continue;
      token.output.text_bytes = static_cast<int>(std::max(cut - token.begin, int64_t{0}));
    }
    return match;
  }
  return nullptr;
}

void AnswerStream::Release(int64_t first_held_byte, std::vector<OutputToken>& released) {
  while (!held_.empty() && held_.front().end <= first_held_byte) {
    released.push_back(std::move(held_.front().output));
    held_.pop_front();
  }
}

absl::StatusOr<std::optional<AnswerEnd>> Replay(absl::Span<const int32_t> ids, int choice,
                                                AnswerStream& answer) {
  std::vector<OutputToken> told;
  for (size_t i = 0; i < ids.size(); ++i) {
    told.clear();
    OutputToken token;
    token.choice = choice;
    token.token.id = ids[i];
    const std::optional<AnswerEnd> end = answer.Append(std::move(token), told);
    if (!end.has_value()) continue;
    if (i + 1 == ids.size()) return end;
    return absl::InvalidArgumentError(absl::StrCat("so_far of choice ", choice, " has ", ids.size(),
                                                   " ids, but the answer ends after ", i + 1));
  }
  return std::optional<AnswerEnd>();
}

}  // namespace orrery
