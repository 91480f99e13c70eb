#include "tools/generate_command.h"

#include <cstdio>
#include <iostream>
#include <iterator>
#include <optional>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "tools/answer_printer.h"
#include "tools/flags/connect.h"
#include "tools/flags/sampling_flags.h"
#include "tools/terminal.h"

ABSL_FLAG(std::optional<std::string>, prompt, std::nullopt,
          "what to ask; without it standard input is read to its end");
ABSL_FLAG(bool, raw, false, "the prompt as it stands, without chat template");
ABSL_FLAG(bool, logprobs, false, "also print the log-probability of every token");
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
  request.set_logprobs(absl::GetFlag(FLAGS_logprobs));
  if (absl::GetFlag(FLAGS_raw)) {
    request.set_text(prompt);
  } else {
    v1::ChatMessage& message = *request.mutable_messages()->add_message();
    message.set_role(v1::MESSAGE_ROLE_USER);
    message.set_content(prompt);
  }
  return request;
}

std::string ToJson(const Answer& answer, absl::Duration elapsed) {
  nlohmann::ordered_json json;
  json["request_id"] = answer.started.request_id();
  json["model"] = answer.started.model();
  json["seed"] = answer.started.seed();
  json["reasoning"] = answer.reasoning;
  json["content"] = answer.content;
  json["ids"] = answer.ids;
  if (!answer.logprobs.empty()) json["logprobs"] = answer.logprobs;
  json["finish_reason"] = answer.finished.reason() == v1::FINISH_REASON_STOP ? "stop" : "length";
  const v1::Usage& usage = answer.finished.usage();
  json["usage"] = {{"prompt_tokens", usage.prompt_tokens()},
                   {"output_tokens", usage.output_tokens()},
                   {"reasoning_tokens", usage.reasoning_tokens()}};
  json["seconds"] = absl::ToDoubleSeconds(elapsed);
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// The answer goes to standard output, everything about it to standard error, so that scripts get
// the answer alone.
absl::Status Generate(Terminal& out, Terminal& about) {
  ASSIGN_OR_RETURN(OrreryClient client, ConnectFromFlags());
  const bool as_json = absl::GetFlag(FLAGS_json);
  AnswerPrinter thinking(&about), content(&out);
  std::string table;
  const absl::Time begin = absl::Now();
  const absl::StatusOr<Answer> answer =
      client.Generate(MakeRequest(), absl::GetFlag(FLAGS_timeout), [&](const v1::Delta& delta) {
        if (as_json) return true;
        (delta.kind() == v1::DELTA_KIND_REASONING ? thinking : content).Print(delta);
        if (delta.has_logprob()) {
          absl::StrAppendFormat(&table, "%8d  %12.6f\n", delta.id(), delta.logprob());
        }
        return true;
      });
  const absl::Duration elapsed = absl::Now() - begin;
  thinking.Finish();
  content.Finish();
  RETURN_IF_ERROR(answer.status());
  if (as_json) {
    out.Print(ToJson(*answer, elapsed), "\n");
    return absl::OkStatus();
  }
  if (!table.empty()) about.Print("      id       logprob\n", table);
  about.Print(about.Dim(SpeedLine(answer->finished.usage().output_tokens(), elapsed)), "\n");
  return absl::OkStatus();
}

}  // namespace

int RunGenerate(const std::vector<std::string>&) {
  Terminal out(stdout), about(stderr);
  const absl::Status status = Generate(out, about);
  if (status.ok()) return 0;
  std::fprintf(stderr, "orrery generate: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace orrery
