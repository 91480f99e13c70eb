#include "tools/bench/figures.h"

#include <utility>

#include "absl/time/time.h"

namespace orrery {
namespace {

// Adds records up; Finish makes figures of them.
class Tally {
 public:
  explicit Tally(const Window& window) : window_(window) {}

  void Add(const LoadRecord& load) {
    figures_.num_unsent += load.num_unsent;
    for (const RequestRecord& request : load.requests) {
      AddToRates(request);
      if (request.is_measured) AddToLatencies(request);
    }
  }

  Figures Finish() {
    const double seconds = window_.seconds();
    if (seconds > 0.0) {
      figures_.requests_per_s = static_cast<double>(num_ended_) / seconds;
      figures_.input_tokens_per_s = static_cast<double>(num_input_tokens_) / seconds;
      figures_.output_tokens_per_s = static_cast<double>(num_output_tokens_) / seconds;
    }
    figures_.ttft_ms = Summarize(std::move(ttft_));
    figures_.tpot_ms = Summarize(std::move(tpot_));
    figures_.itl_ms = Summarize(std::move(itl_));
    figures_.e2e_ms = Summarize(std::move(e2e_));
    figures_.start_delay_ms = Summarize(std::move(start_delay_));
    figures_.cached_prompt_share = Share(num_cached_, num_prompt_);
    figures_.draft_acceptance = Share(num_accepted_, num_drafted_);
    return std::move(figures_);
  }

 private:
  static double Ms(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }
  static double Share(int64_t part, int64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  }

  void AddToRates(const RequestRecord& request) {
    num_ended_ += request.status.ok() && window_.Contains(request.end);
    const std::vector<absl::Time>& tokens = request.tokens;
    if (!tokens.empty() && window_.Contains(tokens[0])) num_input_tokens_ += request.prompt_tokens;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!window_.Contains(tokens[i])) continue;
      ++num_output_tokens_;
      if (i > 0 && window_.Contains(tokens[i - 1])) itl_.push_back(Ms(tokens[i] - tokens[i - 1]));
    }
  }

  void AddToLatencies(const RequestRecord& request) {
    ++figures_.num_requests;
    start_delay_.push_back(Ms(request.sent - request.arrival));
    if (!request.tokens.empty()) ttft_.push_back(Ms(request.tokens[0] - request.arrival));
    if (request.was_cut) {
      ++figures_.num_cut;
      return;
    }
    if (!request.status.ok()) {
      ++figures_.num_errors[absl::StatusCodeToString(request.status.code())];
      if (figures_.first_error.empty()) figures_.first_error = request.status.ToString();
      return;
    }
    ++figures_.num_ok;
    e2e_.push_back(Ms(request.end - request.arrival));
    if (request.tokens.size() > 1) {
      tpot_.push_back(Ms(request.end - request.tokens[0]) /
                      static_cast<double>(request.tokens.size() - 1));
    }
    num_prompt_ += request.usage.prompt_tokens();
    num_cached_ += request.usage.cached_prompt_tokens();
    num_drafted_ += request.usage.drafted_tokens();
    num_accepted_ += request.usage.accepted_draft_tokens();
  }

  const Window window_;
  Figures figures_;
  std::vector<double> ttft_, tpot_, itl_, e2e_, start_delay_;
  int64_t num_ended_ = 0, num_input_tokens_ = 0, num_output_tokens_ = 0;
  int64_t num_prompt_ = 0, num_cached_ = 0, num_drafted_ = 0, num_accepted_ = 0;
};

}  // namespace

Figures FiguresOf(const LoadRecord& load, const Window& window) {
  Tally tally(window);
  tally.Add(load);
  return tally.Finish();
}

Figures FiguresOf(const std::vector<LoadRecord>& loads, const Window& window) {
  Tally tally(window);
  for (const LoadRecord& load : loads) tally.Add(load);
  return tally.Finish();
}

std::vector<double> TtftMs(const LoadRecord& load, const Window& window) {
  std::vector<double> values;
  for (const RequestRecord& request : load.requests) {
    if (!request.is_measured || (request.tokens.empty() && !request.was_cut)) continue;
    const absl::Time first = request.tokens.empty() ? window.end : request.tokens[0];
    values.push_back(absl::ToDoubleMilliseconds(first - request.arrival));
  }
  return values;
}

const std::vector<FigureText>& FigureDefinitions() {
  static const auto& definitions = *new std::vector<FigureText>{
      {"arrival",
       "when a request was due: by the arrival process, or, in a closed loop, when its client "
       "became free"},
      {"window",
       "from the end of the warm-up to the end of the phase; rates count what happens in it, "
       "latencies are of the requests that arrive in it"},
      {"requests_per_s", "answers that ended without an error in the window, per second"},
      {"input_tokens_per_s", "prompt tokens of requests whose first token came, cached ones too"},
      {"output_tokens_per_s", "tokens that came"},
      {"ttft_ms", "time to first token: from the arrival to the first token"},
      {"tpot_ms",
       "time per output token, of a whole answer: (latency - TTFT) / (output tokens - 1)"},
      {"itl_ms",
       "inter-token latency: between two consecutive tokens of an answer, both in the window; "
       "tokens that a draft gave at once are about 0 apart"},
      {"e2e_ms", "latency: from the arrival to the end of the answer"},
      {"start_delay_ms",
       "from the arrival to when the generator sent it; part of TTFT and latency"},
      {"unsent", "due in the window, never sent: --max_concurrency requests were open"},
      {"cut", "ended by the generator itself: end of the phase, or the client was to go away"},
      {"cached_prompt_share", "of the prompt tokens, those that the prefix cache held"},
      {"draft_acceptance", "of the tokens drafted by speculative decoding, those that were right"},
      {"generator_cpu_cores",
       "processor time of this process, user and system, per second of the phase, warm-up too"},
      {"cluster_cpu_cores", "the same of each process of the cluster, if this one started them"},
  };
  return definitions;
}

}  // namespace orrery
