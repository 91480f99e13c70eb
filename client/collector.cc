#include "client/collector.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {

absl::Status Collector::Add(const v1::GenerateResponse& response) {
  switch (response.event_case()) {
    case v1::GenerateResponse::kStarted:
      return AddStarted(response.started());
    case v1::GenerateResponse::kDelta:
      return AddDelta(response.delta());
    case v1::GenerateResponse::kFinished:
      return AddFinished(response.finished());
    default:
      return absl::OkStatus();  // of a later version
  }
}

absl::Status Collector::AddStarted(const v1::Started& started) {
  const v1::Started& first = answer_.started;
  if (num_resumed_ > 0 &&
      (started.request_id() != first.request_id() || started.seed() != first.seed())) {
    return absl::InternalError(absl::StrCat("the router continued request ", started.request_id(),
                                            " instead of ", first.request_id()));
  }
  answer_.started = started;
  return absl::OkStatus();
}

absl::Status Collector::AddDelta(const v1::Delta& delta) {
  ASSIGN_OR_RETURN(Choice* const choice, Open(delta.choice()));
  if (delta.index() != static_cast<int>(choice->ids.size())) {
    return absl::InternalError(absl::StrCat("the router sent token ", delta.index(), " of choice ",
                                            delta.choice(), ", expected was ", choice->ids.size()));
  }
  choice->ids.push_back(delta.id());
  if (delta.has_logprob()) choice->logprobs.push_back(delta.logprob());
  if (delta.top_size() > 0) choice->top.emplace_back(delta.top().begin(), delta.top().end());
  (delta.kind() == v1::DELTA_KIND_REASONING ? choice->reasoning : choice->content) += delta.text();
  ++num_events_;
  return absl::OkStatus();
}

absl::Status Collector::AddFinished(const v1::Finished& finished) {
  ASSIGN_OR_RETURN(Choice* const choice, Open(finished.choice()));
  choice->finished = finished;
  has_finished_[finished.choice()] = true;
  ++num_finished_;
  ++num_events_;
  return absl::OkStatus();
}

absl::StatusOr<Answer> Collector::Take() {
  if (is_complete()) return std::move(answer_);
  return absl::InternalError(absl::StrCat("the router ended the stream after ", num_finished_,
                                          " of ", num_choices_, " choices"));
}

void Collector::FillResume(v1::Resume& resume) {
  resume.set_token(answer_.started.resume_token());
  resume.set_attempt(++num_resumed_);
  resume.clear_received();
  for (int k = 0; k < num_choices_; ++k) {
    v1::ReceivedChoice& received = *resume.add_received();
    received.set_finished(HasFinished(k));
    if (k >= answer_.num_choices() || received.finished()) continue;
    const std::vector<int32_t>& ids = answer_.choice(k).ids;
    received.mutable_id()->Assign(ids.begin(), ids.end());
  }
}

// Grows with what comes, not with what a request asks for, which may be nonsense.
absl::StatusOr<Choice*> Collector::Open(int index) {
  if (index < 0 || index >= num_choices_) {
    return absl::InternalError(
        absl::StrCat("the router sent choice ", index, " of ", num_choices_));
  }
  if (HasFinished(index)) {
    return absl::InternalError(
        absl::StrCat("the router sent more of choice ", index, " after its end"));
  }
  if (index >= answer_.num_choices()) answer_.others.resize(index);
  if (index >= static_cast<int>(has_finished_.size())) has_finished_.resize(index + 1);
  return index == 0 ? static_cast<Choice*>(&answer_) : &answer_.others[index - 1];
}

bool Collector::HasFinished(int index) const {
  return index < static_cast<int>(has_finished_.size()) && has_finished_[index];
}

}  // namespace orrery
