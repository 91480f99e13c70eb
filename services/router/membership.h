// Who is there and who may be used, as far as the router knows: descriptions in, verdicts out.
//
//   Membership membership(members, own_fingerprint);
//   membership.OnDescription(1, description);     // what member 1 says of itself
//   if (!membership.IsUsable(1)) LogWarning(membership.WhyNotUsable(1));
//
// The first attention rank that is ready decides which model and which numerics id the cluster has;
// a rank that differs is refused, with both values, until it changes or until no accepted rank is
// left. So a rank that comes back with another model never displaces the ones that serve. Shards
// are judged by the same measure for the status page only: it is the ranks that use them.
//
// Retiring ranks (proto/cluster.proto) decide nothing and are refused for nothing but another
// config.json: each serves a model of its own, to answers that were begun with that one.
//
// It does not ask anybody (member_watch.h does) and knows no time. Threads: none of its own; guard
// it from outside.
#ifndef ORRERY_SERVICES_ROUTER_MEMBERSHIP_H_
#define ORRERY_SERVICES_ROUTER_MEMBERSHIP_H_

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/fingerprint.h"
#include "proto/member.pb.h"

namespace orrery {

struct MemberInfo {
  internal::Role role = internal::ROLE_UNSPECIFIED;
  std::string name;
  std::string address;
  bool is_spare = false;     // see proto/cluster.proto
  bool is_retiring = false;  // likewise
};

// What the bits of an answer come from. Of a model of many files nobody need know all.
struct ModelIdentity {
  Fingerprint fingerprint;
  std::string numerics_id;

  // OK, or what differs, with both values.
  absl::Status CheckSame(const ModelIdentity& theirs) const;
};

struct MemberView {
  MemberInfo info;
  // Whether it answered when last asked; if not, why.
  bool is_reachable = false;
  std::string unreachable_reason = "not asked yet";
  // What it said last, kept also while it does not answer.
  internal::MemberDescription description;
  // Why it is refused although it answers; empty if it is not.
  std::string refusal;
  // A ready attention rank, not retiring, whose model and numerics id are those of the cluster.
  bool is_accepted = false;
  // Of a retiring rank, what it served when it was ready last; null while that is not known.
  std::shared_ptr<const ModelIdentity> retiring_model = nullptr;
};

class Membership {
 public:
  // `own` is what the router itself knows of the model: its configuration, no weights.
  Membership(std::vector<MemberInfo> members, Fingerprint own);

  void OnDescription(int member, const internal::MemberDescription& description);
  void OnUnreachable(int member, const std::string& reason);

  int num_members() const { return static_cast<int>(members_.size()); }
  const MemberView& member(int index) const { return members_[index]; }
  // Indices of the attention ranks, ascending.
  const std::vector<int>& ranks() const { return ranks_; }

  // Reachable, not refused, ready.
  bool IsUsable(int member) const;
  // What new requests are answered with, that is, what the accepted ranks serve; null while there are
  // none. What is given out does not change.
  const std::shared_ptr<const ModelIdentity>& model() const { return model_; }
  // Whether this usable rank serves that model.
  bool Serves(int rank, const ModelIdentity& model) const;
  // FAILED_PRECONDITION if every rank is known to serve something else, with both values; OK also while
  // nobody knows.
  absl::Status CheckServed(const ModelIdentity& model) const;

  // One sentence, empty if it is usable: "attention-1 is loading (12 of 40 MB)".
  std::string WhyNotUsable(int member) const;

 private:
  void Judge(int index);
  void Unaccept(int index);
  std::string Refusal(const MemberView& view) const;

  const Fingerprint own_;
  std::vector<MemberView> members_;
  std::vector<int> ranks_;
  std::shared_ptr<const ModelIdentity> model_;
  std::string model_rank_;  // whose it was first
};

// "loading", "waiting", "ready", "stopping", "failed"; "unknown" for anything else.
std::string MemberStateName(internal::MemberState state);

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_MEMBERSHIP_H_
