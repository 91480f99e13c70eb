// A router's core and what members say of themselves, for tests.
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_CORE_FIXTURE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_CORE_FIXTURE_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "services/router/router_core.h"

namespace orrery {

// Members 0 and 1 are ranks, 2 is a shard.
inline Membership TwoRanksAndAShard() {
  return Membership({{internal::ROLE_ATTENTION, "attention-0", "h:1"},
                     {internal::ROLE_ATTENTION, "attention-1", "h:2"},
                     {internal::ROLE_EXPERT, "expert-0", "h:3"}},
                    {.config_hash = "c0", .files = {}});
}

// Of a member.
struct Said {
  std::string name;
  internal::Role role = internal::ROLE_ATTENTION;
  internal::MemberState state = internal::MEMBER_STATE_READY;
  std::string weights = "w0";
  std::string numerics_id = "x86-1 bf16";
  int waiting_requests = 0;
};

inline internal::MemberDescription Description(const Said& said) {
  internal::MemberDescription description;
  description.set_name(said.name);
  description.set_role(said.role);
  description.set_state(said.state);
  description.set_numerics_id(said.numerics_id);
  description.mutable_fingerprint()->set_config_hash("c0");
  (*description.mutable_fingerprint()->mutable_files())["model.safetensors"] = said.weights;
  description.mutable_load()->set_waiting_requests(said.waiting_requests);
  return description;
}

class RouterCoreTest : public ::testing::Test {
 protected:
  void SayReady(int rank) {
    core_.OnDescription(rank, Description({.name = absl::StrCat("attention-", rank)}));
  }
  std::string WhyNot(int member) const { return core_.membership().WhyNotUsable(member); }

  RouterCore core_{{.max_open_requests = 4, .max_attempts = 5}, TwoRanksAndAShard()};
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_CORE_FIXTURE_H_
