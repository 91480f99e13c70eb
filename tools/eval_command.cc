#include "tools/eval_command.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tools/eval/examinee.h"
#include "tools/eval/problems.h"
#include "tools/eval/score.h"
#include "tools/flags/command_line.h"
#include "tools/flags/connect.h"
#include "tools/flags/local_flags.h"
#include "tools/terminal.h"

ABSL_FLAG(bool, require_agreement, false,
          "exit with 1 if a prompt, or an answer whose reference is clear, has other ids than the "
          "file says");
ABSL_FLAG(int, limit, 0, "ask only the first so many problems; 0: all");
ABSL_FLAG(int, max_answer_tokens, 256, "longest answer");

namespace orrery {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(200);
constexpr int kBarWidth = 30;

absl::StatusOr<std::unique_ptr<Examinee>> MakeExaminee() {
  if (!absl::GetFlag(FLAGS_router).empty() || !absl::GetFlag(FLAGS_cluster).empty()) {
    ASSIGN_OR_RETURN(OrreryClient client, ConnectFromFlags());
    return MakeRemoteExaminee(std::move(client));
  }
  ASSIGN_OR_RETURN(const LocalClusterOptions options, LocalClusterFromFlags(Precision::kBf16));
  return MakeLocalExaminee(options);
}

// Asks all problems from as many threads as keep the examinee busy. The first error ends it.
absl::StatusOr<std::vector<ExamAnswer>> AskAll(const std::vector<Problem>& problems,
                                               Examinee& examinee, Terminal& terminal) {
  std::vector<ExamAnswer> answers(problems.size());
  std::vector<absl::Status> errors(examinee.num_threads());
  std::atomic<size_t> num_taken = 0, num_done = 0;
  std::atomic<bool> failed = false;
  std::atomic<int> num_running = examinee.num_threads();
  std::vector<std::thread> threads;
  const absl::Time begin = absl::Now();
  for (int t = 0; t < examinee.num_threads(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = num_taken++; i < problems.size() && !failed; i = num_taken++) {
        absl::StatusOr<ExamAnswer> answer =
            examinee.Ask(problems[i], absl::GetFlag(FLAGS_max_answer_tokens));
        if (!answer.ok()) {
          errors[t] = absl::Status(
              answer.status().code(),
              absl::StrCat("problem ", problems[i].id, ": ", answer.status().message()));
          failed = true;
          break;
        }
        answers[i] = *std::move(answer);
        ++num_done;
      }
      --num_running;
    });
  }
  while (terminal.is_tty() && num_running > 0) {
    terminal.ShowProgress(ProgressLine({.label = "asking",
                                        .done = static_cast<int64_t>(num_done),
                                        .total = static_cast<int64_t>(problems.size()),
                                        .elapsed = absl::Now() - begin,
                                        .unit = "problems"},
                                       kBarWidth));
    absl::SleepFor(kProgressInterval);
  }
  for (std::thread& thread : threads) thread.join();
  terminal.ClearProgress();
  for (const absl::Status& error : errors) RETURN_IF_ERROR(error);
  return answers;
}

absl::StatusOr<Scores> Evaluate(const std::string& path) {
  ASSIGN_OR_RETURN(std::vector<Problem> problems, ReadProblems(path));
  const int limit = absl::GetFlag(FLAGS_limit);
  if (limit > 0 && static_cast<size_t>(limit) < problems.size()) problems.resize(limit);
  ASSIGN_OR_RETURN(const std::unique_ptr<Examinee> examinee, MakeExaminee());
  Terminal terminal(stderr);
  std::printf("%zu problems of %s, asked %s\n", problems.size(), path.c_str(),
              examinee->Describe().c_str());
  std::fflush(stdout);
  const absl::Time begin = absl::Now();
  ASSIGN_OR_RETURN(const std::vector<ExamAnswer> answers, AskAll(problems, *examinee, terminal));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);

  Scores scores;
  size_t num_tokens = 0;
  for (size_t i = 0; i < problems.size(); ++i) {
    scores.Add(problems[i], answers[i]);
    num_tokens += answers[i].ids.size();
  }
  std::fputs(scores.ToString().c_str(), stdout);
  std::printf("%zu answers of %zu tokens in %.1f s (%.0f tokens/s)\n", answers.size(), num_tokens,
              seconds, num_tokens / std::max(seconds, 1e-9));
  return scores;
}

}  // namespace

int RunEval(const std::vector<std::string>& arguments) {
  if (arguments.size() != 1) {
    return Fail("eval", absl::InvalidArgumentError("say `orrery eval FILE.jsonl`"));
  }
  const absl::StatusOr<Scores> scores = Evaluate(arguments[0]);
  if (!scores.ok()) {
    return Fail("eval", scores.status());
  }
  if (absl::GetFlag(FLAGS_require_agreement) && !scores->agrees()) {
    return Fail("eval", absl::DataLossError("answers differ from the reference"));
  }
  return 0;
}

}  // namespace orrery
