#include "tools/status_command.h"

#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/flags/command_line.h"
#include "tools/flags/connect.h"
#include "tools/terminal.h"

namespace orrery {
namespace {

int Percent(int64_t part, int64_t rest) {
  return static_cast<int>(100.0 * static_cast<double>(part) / static_cast<double>(part + rest));
}

bool IsNeverEncrypted(const std::string& exchange) {
  return exchange == "nccl" || exchange == "cuda_ipc";
}

// ", shm to 3 shards, grpc to expert-2": a shard that is the only one of its kind is named. What goes between
// GPUs, unencrypted whatever the cluster's TLS files, says so.
std::string LinkDetails(const v1::MemberStatus& member) {
  std::map<std::string, std::vector<std::string>> shards;  // by exchange
  for (const v1::ExchangeLink& link : member.exchange_link()) {
    shards[link.exchange()].push_back(link.shard());
  }
  std::string details;
  for (const auto& [exchange, names] : shards) {
    absl::StrAppend(&details, ", ", exchange, " to ",
                    names.size() == 1 ? names[0] : absl::StrCat(names.size(), " shards"),
                    IsNeverEncrypted(exchange) ? " (not encrypted)" : "");
  }
  return details;
}

// Counters that say nothing are left out.
std::string RankDetails(const v1::MemberStatus& member) {
  std::string details =
      absl::StrFormat("%d running, %d waiting, kv %d/%d", member.running_requests(),
                      member.waiting_requests(), member.kv_blocks_used(), member.kv_blocks_total());
  if (member.kv_blocks_cached() > 0) {
    absl::StrAppendFormat(&details, " + %d cached", member.kv_blocks_cached());
  }
  absl::StrAppendFormat(&details, ", %d in, %d out", member.tokens_in(), member.tokens_out());
  if (member.prefix_hit_tokens() > 0) {
    absl::StrAppendFormat(&details, ", %d%% prefix hits",
                          Percent(member.prefix_hit_tokens(), member.prefix_miss_tokens()));
  }
  if (const int64_t drafted = member.drafted_tokens(); drafted > 0) {
    const int64_t accepted = member.accepted_draft_tokens();
    absl::StrAppendFormat(&details, ", %d%% drafts right", Percent(accepted, drafted - accepted));
  }
  if (member.preemptions() > 0) {
    absl::StrAppendFormat(&details, ", %d preempted", member.preemptions());
  }
  absl::StrAppend(&details, LinkDetails(member));
  return details;
}

std::string ShardDetails(const v1::MemberStatus& member) {
  std::string details = absl::StrFormat("%d experts, %.1f MB", member.num_held_experts(),
                                        member.loaded_bytes() * 1e-6);
  if (member.frame_groups() > 0) {
    absl::StrAppendFormat(
        &details, ", %.2f frames per group",
        static_cast<double>(member.frames()) / static_cast<double>(member.frame_groups()));
  }
  return details;
}

// "imbalance: 1.31 (fullest by mean shard); moved copies 2 times, last 1.84 -> 1.27: in layer 3 ..."; empty
// before anything is known.
std::string BalanceLine(const v1::Balance& balance) {
  if (balance.imbalance() == 0 && balance.num_moves() == 0) return "";
  std::string line = absl::StrFormat("imbalance: %.2f, fullest by mean shard", balance.imbalance());
  if (balance.num_moves() > 0) {
    absl::StrAppendFormat(&line, "; %s moved copies %d times, last for %.2f -> %.2f: %s",
                          balance.router(), balance.num_moves(), balance.before(), balance.after(),
                          balance.reason());
  }
  return line + "\n";
}

// What a member of this role has to show.
std::string RoleDetails(const v1::MemberStatus& member) {
  if (member.state() == "unreachable") return "";
  if (member.state() == "absent") return "spare";
  if (member.state() == "loading") {
    return absl::StrFormat("%.1f of %.1f MB", member.loaded_bytes() * 1e-6,
                           member.total_bytes() * 1e-6);
  }
  if (member.role() == "expert") return ShardDetails(member);
  if (member.role() == "router") return absl::StrFormat("%d open", member.running_requests());
  return RankDetails(member);
}

std::string Details(const v1::MemberStatus& member) {
  std::vector<std::string> details;
  if (member.retiring()) details.push_back("retiring");
  if (std::string of_role = RoleDetails(member); !of_role.empty()) {
    details.push_back(std::move(of_role));
  }
  if (member.budget_bytes() != 0) {  // what it needs at most of what it may take
    details.push_back(absl::StrFormat("memory %.2f of %.1f GB", member.needed_bytes() * 1e-9,
                                      member.budget_bytes() * 1e-9));
  }
  return absl::StrJoin(details, ", ");
}

}  // namespace

std::string StatusTable(const v1::ClusterStatusResponse& status) {
  std::string table;
  absl::StrAppendFormat(&table, "%-16s %-12s %-22s %-14s %s\n", "member", "state", "address",
                        "backend", "");
  std::set<std::string> numerics_ids;
  for (const v1::MemberStatus& member : status.member()) {
    absl::StrAppendFormat(&table, "%-16s %-12s %-22s %-14s %s\n", member.name(), member.state(),
                          member.address(), member.backend(), Details(member));
    for (const std::string& problem : member.problem()) {
      absl::StrAppend(&table, "    ! ", problem, "\n");
    }
    for (const v1::ExchangeLink& link : member.exchange_link()) {
      if (link.problem().empty()) continue;
      absl::StrAppend(&table, "    ! ", link.exchange(), " to ", link.shard(), ": ", link.problem(),
                      "\n");
    }
    if (member.kv_blocks_leaked() != 0) {
      absl::StrAppend(&table, "    ! ", member.kv_blocks_leaked(),
                      " leaked KV blocks: this is a bug, please report it\n");
    }
    if (!member.numerics_id().empty()) numerics_ids.insert(member.numerics_id());
  }
  for (const std::string& id : numerics_ids) absl::StrAppend(&table, "numerics: ", id, "\n");
  absl::StrAppend(&table, BalanceLine(status.balance()));
  return table;
}

int RunStatus(const std::vector<std::string>&) {
  absl::StatusOr<OrreryClient> client = ConnectFromFlags();
  absl::StatusOr<v1::ClusterStatusResponse> status =
      client.ok() ? client->ClusterStatus() : client.status();
  if (!status.ok()) {
    return Fail("status", status.status());
  }
  Terminal out(stdout);
  out.Print("cluster at ", client->address(), ": ",
            status->ready() ? out.Green("ready") : out.Red("not ready"), "\n\n",
            StatusTable(*status));
  return status->ready() ? 0 : 1;
}

}  // namespace orrery
