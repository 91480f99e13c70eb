#include "tools/generate_command.h"

#include <cstdio>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "tools/answer_printer.h"
#include "tools/flags/command_line.h"
#include "tools/flags/connect.h"
#include "tools/flags/sampling_flags.h"
#include "tools/terminal.h"

ABSL_FLAG(std::optional<std::string>, prompt, std::nullopt,
          "what to ask; without it standard input is read to its end");
ABSL_FLAG(bool, raw, false, "the prompt as it stands, without chat template");
ABSL_FLAG(bool, logprobs, false, "also print the log-probability of every token");
ABSL_FLAG(int, top_logprobs, 0, "and of so many alternatives, at most 20; means --logprobs too");
ABSL_FLAG(int, num_choices, 1, "answers to the one prompt, at most 16");
ABSL_FLAG(bool, json, false, "print one JSON object when the answer is complete");

namespace orrery {
namespace {

v1::GenerateRequest MakeRequest() {
  std::string prompt;
  if (const std::optional<std::string> flag = absl::GetFlag(FLAGS_prompt)) {
    prompt = *flag;
  } else {
    prompt.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
    // The newline that every shell adds is no part of a question; --raw means every byte.
    if (!absl::GetFlag(FLAGS_raw) && !prompt.empty() && prompt.back() == '\n') prompt.pop_back();
  }
  v1::GenerateRequest request = RequestFromFlags();
  request.set_num_choices(absl::GetFlag(FLAGS_num_choices));
  request.set_num_top_logprobs(absl::GetFlag(FLAGS_top_logprobs));
  request.set_logprobs(absl::GetFlag(FLAGS_logprobs) || request.num_top_logprobs() > 0);
  if (absl::GetFlag(FLAGS_raw)) {
    request.set_text(prompt);
  } else {
    v1::ChatMessage& message = *request.mutable_messages()->add_message();
    message.set_role(v1::MESSAGE_ROLE_USER);
    message.set_content(prompt);
  }
  return request;
}

nlohmann::ordered_json TopJson(const Choice& choice) {
  nlohmann::ordered_json tokens = nlohmann::ordered_json::array();
  for (const std::vector<v1::TokenLogprob>& alternatives : choice.top) {
    nlohmann::ordered_json& token = tokens.emplace_back(nlohmann::ordered_json::array());
    for (const v1::TokenLogprob& top : alternatives) {
      token.push_back({{"id", top.id()}, {"logprob", top.logprob()}, {"token", top.token()}});
    }
  }
  return tokens;
}

nlohmann::ordered_json ChoiceJson(const Choice& choice) {
  nlohmann::ordered_json json;
  json["reasoning"] = choice.reasoning;
  json["content"] = choice.content;
  json["ids"] = choice.ids;
  if (!choice.logprobs.empty()) json["logprobs"] = choice.logprobs;
  if (!choice.top.empty()) json["top_logprobs"] = TopJson(choice);
  json["finish_reason"] = choice.finished.reason() == v1::FINISH_REASON_STOP ? "stop" : "length";
  if (!choice.finished.stop().empty()) json["stop_string"] = choice.finished.stop();
  const v1::Usage& usage = choice.finished.usage();
  json["usage"] = {{"prompt_tokens", usage.prompt_tokens()},
                   {"cached_prompt_tokens", usage.cached_prompt_tokens()},
                   {"output_tokens", usage.output_tokens()},
                   {"reasoning_tokens", usage.reasoning_tokens()},
                   {"drafted_tokens", usage.drafted_tokens()},
                   {"accepted_draft_tokens", usage.accepted_draft_tokens()}};
  return json;
}

// One choice stands in the object itself, several in its "choices".
std::string ToJson(const Answer& answer, absl::Duration elapsed) {
  nlohmann::ordered_json json;
  json["request_id"] = answer.started.request_id();
  json["model"] = answer.started.model();
  json["seed"] = answer.started.seed();
  if (answer.num_choices() == 1) {
    json.update(ChoiceJson(answer));
  } else {
    for (int k = 0; k < answer.num_choices(); ++k) {
      json["choices"].push_back(ChoiceJson(answer.choice(k)));
    }
  }
  json["seconds"] = absl::ToDoubleSeconds(elapsed);
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// The answer goes to standard output, everything about it to standard error, so that scripts get
// the answer alone.
class ChoicePrinter {
 public:
  ChoicePrinter(Terminal& out, Terminal& about) : thinking_(&about), content_(&out) {}
  ~ChoicePrinter() {
    thinking_.Finish();
    content_.Finish();
  }

  void Print(const v1::Delta& delta) {
    (delta.kind() == v1::DELTA_KIND_REASONING ? thinking_ : content_).Print(delta);
  }
  void Print(v1::DeltaKind kind, const std::string& text) {
    v1::Delta delta;
    delta.set_kind(kind);
    delta.set_text(text);
    Print(delta);
  }

 private:
  AnswerPrinter thinking_, content_;
};

// Several answers cannot be shown while they are made, all at once: one after another, then.
void PrintChoices(const Answer& answer, Terminal& out, Terminal& about) {
  for (int k = 0; k < answer.num_choices(); ++k) {
    out.Print(out.Bold(absl::StrCat("[choice ", k, "]")), "\n");
    ChoicePrinter printer(out, about);
    printer.Print(v1::DELTA_KIND_REASONING, answer.choice(k).reasoning);
    printer.Print(v1::DELTA_KIND_CONTENT, answer.choice(k).content);
  }
}

// Empty if log-probabilities were not asked for.
std::string LogprobTable(const Choice& choice) {
  std::string table;
  for (size_t i = 0; i < choice.logprobs.size(); ++i) {
    absl::StrAppendFormat(&table, "%8d  %12.6f", choice.ids[i], choice.logprobs[i]);
    if (i < choice.top.size()) {
      for (const v1::TokenLogprob& top : choice.top[i]) {
        absl::StrAppendFormat(&table, "  %d \"%s\" %.6f", top.id(),
                              absl::Utf8SafeCHexEscape(top.token()), top.logprob());
      }
    }
    table += '\n';
  }
  return table.empty() ? "" : "      id       logprob\n" + table;
}

// Of all choices; the prompt is the same in all.
v1::Usage TotalUsage(const Answer& answer) {
  v1::Usage total = answer.finished.usage();
  for (const Choice& choice : answer.others) {
    const v1::Usage& usage = choice.finished.usage();
    total.set_output_tokens(total.output_tokens() + usage.output_tokens());
    total.set_drafted_tokens(total.drafted_tokens() + usage.drafted_tokens());
    total.set_accepted_draft_tokens(total.accepted_draft_tokens() + usage.accepted_draft_tokens());
  }
  return total;
}

absl::Status Generate(Terminal& out, Terminal& about) {
  ASSIGN_OR_RETURN(OrreryClient client, ConnectFromFlags());
  const v1::GenerateRequest request = MakeRequest();
  const bool as_json = absl::GetFlag(FLAGS_json);
  const bool is_single = request.num_choices() <= 1;
  std::optional<ChoicePrinter> live;
  if (is_single && !as_json) live.emplace(out, about);
  const absl::Time begin = absl::Now();
  const absl::StatusOr<Answer> answer =
      client.Generate(request, absl::GetFlag(FLAGS_timeout), [&](const v1::Delta& delta) {
        if (live.has_value()) live->Print(delta);
        return true;
      });
  const absl::Duration elapsed = absl::Now() - begin;
  live.reset();  // ends its lines
  RETURN_IF_ERROR(answer.status());
  if (as_json) {
    out.Print(ToJson(*answer, elapsed), "\n");
    return absl::OkStatus();
  }
  if (!is_single) PrintChoices(*answer, out, about);
  for (int k = 0; k < answer->num_choices(); ++k) {
    const std::string table = LogprobTable(answer->choice(k));
    if (!table.empty() && !is_single) about.Print("[choice ", k, "]\n");
    about.Print(table);
  }
  const v1::Usage usage = TotalUsage(*answer);
  about.Print(
      about.Dim(absl::StrCat(SpeedLine(usage.output_tokens(), elapsed), SavingsNote(usage))), "\n");
  return absl::OkStatus();
}

}  // namespace

int RunGenerate(const std::vector<std::string>&) {
  Terminal out(stdout), about(stderr);
  const absl::Status status = Generate(out, about);
  if (status.ok()) return 0;
  return Fail("generate", status);
}

}  // namespace orrery
