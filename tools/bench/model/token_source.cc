#include "tools/bench/model/token_source.h"

#include <atomic>
#include <random>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tools/bench/summary.h"

namespace orrery {
namespace {

constexpr absl::Duration kTimeout = absl::Minutes(10);
// Tokens of the watched sequence before the first that counts.
constexpr int kWarmUpSteps = 3;

std::vector<int32_t> RandomPrompt(int num_tokens, int vocab_size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> ids(num_tokens);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % vocab_size);
  return ids;
}

class EngineSource final : public TokenSource {
 public:
  explicit EngineSource(Engine* engine) : engine_(*engine) {}

  absl::Status Generate(const std::vector<int32_t>& prompt, int num_tokens,
                        const std::function<bool()>& on_token) override {
    GenerationRequest request;
    request.prompt_ids = prompt;
    request.stop.max_new_tokens = num_tokens;
    ASSIGN_OR_RETURN(const std::shared_ptr<Outbox> outbox, engine_.Submit(std::move(request)));
    const absl::Time deadline = absl::Now() + kTimeout;
    while (!outbox->status().has_value()) {
      const auto events = outbox->Next(deadline);
      if (events.empty() && !outbox->status().has_value()) {
        outbox->Cancel();
        return absl::DeadlineExceededError(
            absl::StrCat("no answer within ", absl::FormatDuration(kTimeout)));
      }
      for (const OutputEvent& event : events) {
        if (!std::holds_alternative<OutputToken>(event) || on_token()) continue;
        outbox->Cancel();
        return absl::OkStatus();
      }
    }
    return *outbox->status();
  }

 private:
  Engine& engine_;
};

class ClusterSource final : public TokenSource {
 public:
  explicit ClusterSource(OrreryClient* client) : client_(*client) {}

  absl::Status Generate(const std::vector<int32_t>& prompt, int num_tokens,
                        const std::function<bool()>& on_token) override {
    v1::GenerateRequest request;
    request.mutable_ids()->mutable_id()->Add(prompt.begin(), prompt.end());
    request.set_max_new_tokens(num_tokens);
    request.set_ignore_eos(true);
    bool given_up = false;
    const absl::Status status = client_
                                    .Generate(request, kTimeout,
                                              [&](const v1::Delta&) {
                                                given_up = !on_token();
                                                return !given_up;
                                              })
                                    .status();
    return given_up ? absl::OkStatus() : status;
  }

 private:
  OrreryClient& client_;
};

// The sequences of one measurement, of which the first is watched.
class DecodeRun {
 public:
  DecodeRun(TokenSource& source, const DecodeLoad& load) : source_(source), load_(load) {}

  absl::StatusOr<double> Run() {
    std::vector<absl::Status> ends(load_.num_sequences);
    std::vector<std::thread> threads;
    for (int i = 0; i < load_.num_sequences; ++i) {
      threads.emplace_back([this, i, &ends] { ends[i] = RunSequence(i); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const absl::Status& status : ends) RETURN_IF_ERROR(status);
    return Median(std::move(seconds_));
  }

 private:
  absl::Status RunSequence(int number) {
    const std::vector<int32_t> prompt =
        RandomPrompt(load_.prompt_tokens, load_.vocab_size, load_.seed * 1000 + number);
    bool has_started = false;
    const absl::Status status =
        source_.Generate(prompt, load_.max_tokens - load_.prompt_tokens, [&] {
          if (!std::exchange(has_started, true)) ++num_started_;
          if (number == 0) Watch();
          return !done_;
        });
    if (status.ok() && !done_) {
      done_ = true;
      return absl::InvalidArgumentError(absl::StrCat(
          "a sequence of ", load_.max_tokens, " tokens ended before all had run side by side for ",
          load_.num_steps, " steps; use a model with longer contexts, or fewer sequences"));
    }
    return status;
  }

  // The first sequence has a new token.
  void Watch() {
    const absl::Time now = absl::Now();
    if (num_started_ == load_.num_sequences && ++num_steps_ > kWarmUpSteps) {
      seconds_.push_back(absl::ToDoubleSeconds(now - last_));
      done_ = static_cast<int>(seconds_.size()) >= load_.num_steps;
    }
    last_ = now;
  }

  TokenSource& source_;
  const DecodeLoad& load_;
  std::atomic<int> num_started_ = 0;
  std::atomic<bool> done_ = false;
  // The first sequence's.
  int num_steps_ = 0;  // since all run
  absl::Time last_;
  std::vector<double> seconds_;
};

}  // namespace

std::unique_ptr<TokenSource> MakeEngineSource(Engine* engine) {
  return std::make_unique<EngineSource>(engine);
}

std::unique_ptr<TokenSource> MakeClusterSource(OrreryClient* client) {
  return std::make_unique<ClusterSource>(client);
}

absl::StatusOr<double> SecondsPerStep(TokenSource& source, const DecodeLoad& load) {
  return DecodeRun(source, load).Run();
}

absl::StatusOr<double> SecondsToFirstToken(TokenSource& source, int prompt_tokens, int vocab_size,
                                           uint64_t seed) {
  const std::vector<int32_t> prompt = RandomPrompt(prompt_tokens, vocab_size, seed);
  const absl::Time begin = absl::Now();
  absl::Time first = absl::InfiniteFuture();
  RETURN_IF_ERROR(source.Generate(prompt, 1, [&] {
    first = absl::Now();
    return true;
  }));
  return absl::ToDoubleSeconds(first - begin);
}

}  // namespace orrery
