#include "services/router/membership.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/identity/fingerprint_proto.h"

namespace orrery {
namespace {

// Until it has read its weights, a member knows neither its fingerprint nor, perhaps, its numerics
// id.
bool KnowsItsModel(const internal::MemberDescription& description) {
  return description.state() == internal::MEMBER_STATE_WAITING ||
         description.state() == internal::MEMBER_STATE_READY;
}

}  // namespace

absl::Status ModelIdentity::CheckSame(const ModelIdentity& theirs) const {
  RETURN_IF_ERROR(CheckSameModel(fingerprint, theirs.fingerprint));
  if (numerics_id == theirs.numerics_id) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("our numerics id is \"", numerics_id,
                                                    "\", theirs \"", theirs.numerics_id, "\""));
}

Membership::Membership(std::vector<MemberInfo> members, Fingerprint own) : own_(std::move(own)) {
  for (MemberInfo& info : members) {
    if (info.role == internal::ROLE_ATTENTION) ranks_.push_back(num_members());
    members_.emplace_back().info = std::move(info);
  }
}

void Membership::OnDescription(int member, const internal::MemberDescription& description) {
  MemberView& view = members_[member];
  view.is_reachable = true;
  view.unreachable_reason.clear();
  view.description = description;
  // One that says again what it was accepted for keeps the model, also where it is the only one.
  const bool stays = view.is_accepted && description.state() == internal::MEMBER_STATE_READY &&
                     Refusal(view).empty();
  if (!stays) Unaccept(member);
  Judge(member);
}

void Membership::OnUnreachable(int member, const std::string& reason) {
  MemberView& view = members_[member];
  view.is_reachable = false;
  view.unreachable_reason = reason;
  view.refusal.clear();
  Unaccept(member);
}

// Takes back an acceptance. When it was the last, the cluster's model is open again, and whoever
// was refused for being different may now decide it.
void Membership::Unaccept(int index) {
  members_[index].is_accepted = false;
  const bool any_accepted = std::any_of(members_.begin(), members_.end(),
                                        [](const MemberView& view) { return view.is_accepted; });
  if (any_accepted || model_ == nullptr) return;
  model_.reset();
  for (int other = 0; other < num_members(); ++other) {
    if (other != index && members_[other].is_reachable) Judge(other);
  }
}

void Membership::Judge(int index) {
  MemberView& view = members_[index];
  view.refusal = Refusal(view);
  // One that cannot serve decides nothing: it may wait because it is the odd one out.
  if (view.info.role != internal::ROLE_ATTENTION || !view.refusal.empty() ||
      view.description.state() != internal::MEMBER_STATE_READY) {
    return;
  }
  const bool is_first = model_ == nullptr || view.info.is_retiring;
  ModelIdentity merged =
      is_first ? ModelIdentity{own_, view.description.numerics_id()} : ModelIdentity(*model_);
  MergeFingerprint(FromProto(view.description.fingerprint()), merged.fingerprint);
  if (view.info.is_retiring) {
    view.retiring_model = std::make_shared<const ModelIdentity>(std::move(merged));
    return;
  }
  view.is_accepted = true;
  if (is_first || merged.fingerprint.files.size() > model_->fingerprint.files.size()) {
    model_ = std::make_shared<const ModelIdentity>(std::move(merged));
  }
  if (!is_first) return;
  model_rank_ = view.info.name;
  // Those that were there before had nothing to be measured by.
  for (MemberView& other : members_) {
    if (other.is_reachable && !other.is_accepted) other.refusal = Refusal(other);
  }
}

std::string Membership::Refusal(const MemberView& view) const {
  const internal::MemberDescription& description = view.description;
  if (description.name() != view.info.name || description.role() != view.info.role) {
    return absl::StrCat("at ", view.info.address, " answers \"", description.name(), "\" (",
                        internal::Role_Name(description.role()), "), expected \"", view.info.name,
                        "\" (", internal::Role_Name(view.info.role), ")");
  }
  if (view.info.role == internal::ROLE_ROUTER || !KnowsItsModel(description)) return "";
  const Fingerprint theirs = FromProto(description.fingerprint());
  const bool is_measured = model_ != nullptr && !view.info.is_retiring;
  const std::string compared_with = is_measured ? model_rank_ : "the router";
  const absl::Status same = CheckSameModel(is_measured ? model_->fingerprint : own_, theirs);
  if (!same.ok()) {
    return absl::StrCat("has another model than ", compared_with, ": ", same.message());
  }
  if (is_measured && description.numerics_id() != model_->numerics_id) {
    return absl::StrCat("has numerics id \"", description.numerics_id(), "\", ", compared_with,
                        " has \"", model_->numerics_id, "\"");
  }
  return "";
}

bool Membership::Serves(int rank, const ModelIdentity& model) const {
  const MemberView& view = members_[rank];
  const auto& served = view.info.is_retiring ? view.retiring_model : model_;
  return served != nullptr && served->CheckSame(model).ok();
}

absl::Status Membership::CheckServed(const ModelIdentity& model) const {
  if (model_ == nullptr) return absl::OkStatus();
  const absl::Status same = model_->CheckSame(model);
  for (const int rank : ranks_) {
    if (!members_[rank].info.is_retiring) continue;
    if (members_[rank].retiring_model == nullptr || Serves(rank, model)) return absl::OkStatus();
  }
  return same;
}

bool Membership::IsUsable(int member) const {
  const MemberView& view = members_[member];
  return view.is_reachable && view.refusal.empty() &&
         view.description.state() == internal::MEMBER_STATE_READY;
}

std::string Membership::WhyNotUsable(int member) const {
  if (IsUsable(member)) return "";
  const MemberView& view = members_[member];
  const internal::MemberDescription& description = view.description;
  if (!view.is_reachable) {
    return absl::StrCat(view.info.name, " at ", view.info.address, " cannot be reached (",
                        view.unreachable_reason, ")");
  }
  if (!view.refusal.empty()) return absl::StrCat(view.info.name, " is refused: ", view.refusal);
  std::string reason = absl::StrCat(view.info.name, " is ", MemberStateName(description.state()));
  if (description.state() == internal::MEMBER_STATE_LOADING) {
    absl::StrAppend(&reason, " (", description.loaded_bytes() / 1000000, " of ",
                    description.total_bytes() / 1000000, " MB)");
  }
  if (description.problems_size() > 0) {
    absl::StrAppend(&reason, " (", absl::StrJoin(description.problems(), "; "), ")");
  }
  return reason;
}

std::string MemberStateName(internal::MemberState state) {
  switch (state) {
    case internal::MEMBER_STATE_LOADING:
      return "loading";
    case internal::MEMBER_STATE_WAITING:
      return "waiting";
    case internal::MEMBER_STATE_READY:
      return "ready";
    case internal::MEMBER_STATE_STOPPING:
      return "stopping";
    case internal::MEMBER_STATE_DRAINING:
      return "draining";
    default:
      return "unknown";
  }
}

}  // namespace orrery
