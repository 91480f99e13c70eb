#include "rpc/cluster_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rpc/cluster_file_problems.h"
#include "rpc/tls/tls_files.h"

namespace orrery {
namespace {

// A thousand members take some 100 bytes each; beyond this the file is something else.
constexpr int64_t kMaxFileBytes = 4 << 20;
// Beyond these nobody reads on.
constexpr int kMaxProblems = 100;

absl::Status ProblemsToStatus(const std::string& origin, std::vector<FileProblem> problems) {
  std::sort(problems.begin(), problems.end(), [](const FileProblem& a, const FileProblem& b) {
    return std::tie(a.line, a.column, a.message) < std::tie(b.line, b.column, b.message);
  });
  std::vector<std::string> lines;
  for (const FileProblem& problem : problems) {
    std::string line =
        absl::StrCat(origin, ":", problem.line + 1, ":", problem.column + 1, ": ", problem.message);
    if (lines.empty() || lines.back() != line) lines.push_back(std::move(line));
  }
  const size_t num_problems = lines.size();
  if (lines.size() > kMaxProblems) {
    lines.resize(kMaxProblems);
    lines.push_back(absl::StrCat("... and ", num_problems - kMaxProblems, " more"));
  }
  return absl::InvalidArgumentError(absl::StrCat("the cluster file has ", num_problems,
                                                 num_problems == 1 ? " problem:\n" : " problems:\n",
                                                 absl::StrJoin(lines, "\n")));
}

std::string Resolved(const std::string& path, const std::filesystem::path& folder) {
  if (path.empty()) return path;
  return (folder / path).lexically_normal().string();  // an absolute path replaces the folder
}

void ResolvePaths(const std::string& origin, internal::ClusterFile& cluster) {
  const std::filesystem::path folder = std::filesystem::path(origin).parent_path();
  const auto resolve = [&](std::string* path) { *path = Resolved(*path, folder); };
  resolve(cluster.mutable_model()->mutable_dir());
  for (auto* members :
       {cluster.mutable_router(), cluster.mutable_attention(), cluster.mutable_expert()}) {
    for (ClusterMember& member : *members) resolve(member.mutable_model_dir());
  }
  resolve(cluster.mutable_resume_key_file());
  if (cluster.has_tls()) {
    resolve(cluster.mutable_tls()->mutable_certificate());
    resolve(cluster.mutable_tls()->mutable_private_key());
    resolve(cluster.mutable_tls()->mutable_ca());
  }
}

// The defaults that proto/cluster.proto states.
void FillDefaults(internal::ClusterFile& cluster) {
  internal::Numerics& numerics = *cluster.mutable_numerics();
  if (numerics.precision() == internal::PRECISION_UNSPECIFIED) {
    numerics.set_precision(internal::PRECISION_BF16);
  }
  if (numerics.row_format() == internal::ROW_FORMAT_UNSPECIFIED) {
    numerics.set_row_format(numerics.precision() == internal::PRECISION_F32
                                ? internal::ROW_FORMAT_F32
                                : internal::ROW_FORMAT_BF16);
  }
  if (numerics.backend() == internal::BACKEND_UNSPECIFIED) {
    numerics.set_backend(internal::BACKEND_CPU);
  }
  if (numerics.ffn_weights() == internal::WEIGHT_FORMAT_UNSPECIFIED) {
    numerics.set_ffn_weights(internal::WEIGHT_FORMAT_STORED);
  }
  if (numerics.ffn_products() == internal::PRODUCT_FORMAT_UNSPECIFIED) {
    numerics.set_ffn_products(internal::PRODUCT_FORMAT_PRECISION);
  }
  if (numerics.linear_weights() == internal::WEIGHT_FORMAT_UNSPECIFIED) {
    numerics.set_linear_weights(internal::WEIGHT_FORMAT_STORED);
  }
  if (cluster.exchange() == internal::EXCHANGE_UNSPECIFIED) {
    cluster.set_exchange(internal::EXCHANGE_AUTO);
  }
  if (cluster.require_encryption() && cluster.exchange() == internal::EXCHANGE_AUTO) {
    cluster.set_exchange(internal::EXCHANGE_GRPC);  // the only one that TLS covers
  }
  if (cluster.has_tls() && cluster.tls().trust_domain().empty()) {
    cluster.mutable_tls()->set_trust_domain(kDefaultTrustDomain);
  }
  internal::Limits& limits = *cluster.mutable_limits();
  FillLimitDefaults(limits);
  if (limits.max_failed_shards() == 0) {
    limits.set_max_failed_shards(NumNeeded(cluster.expert()) > 1 ? 1 : 0);
  }
}

}  // namespace

void FillLimitDefaults(internal::Limits& limits) {
  if (limits.max_waiting_requests() == 0) limits.set_max_waiting_requests(256);
  if (limits.expert_timeout_ms() == 0) limits.set_expert_timeout_ms(30000);
  if (limits.max_hedge_ms() == 0) {
    const int quarter = std::max(1, limits.expert_timeout_ms() / 4);
    limits.set_max_hedge_ms(
        std::min(limits.expert_timeout_ms(), std::max(limits.min_hedge_ms(), quarter)));
  }
  if (limits.min_hedge_ms() == 0) limits.set_min_hedge_ms(std::min(50, limits.max_hedge_ms()));
  if (limits.max_hedge_percent() == 0) limits.set_max_hedge_percent(5);
  if (limits.drain_ms() == 0) limits.set_drain_ms(10000);
  if (limits.audit_one_in() == 0) limits.set_audit_one_in(10000);
  if (limits.balance_ms() == 0) limits.set_balance_ms(10000);
  const int64_t rows_per_sequence = 1 + int64_t{limits.num_draft_tokens()};
  if (limits.max_running_sequences() == 0) {
    const int64_t fitting =
        limits.max_step_rows() > 0 ? limits.max_step_rows() / rows_per_sequence : 64;
    limits.set_max_running_sequences(static_cast<int>(std::clamp<int64_t>(fitting, 1, 64)));
  }
  if (limits.max_step_rows() == 0) {
    const int64_t needed = limits.max_running_sequences() * rows_per_sequence;
    limits.set_max_step_rows(static_cast<int>(std::clamp<int64_t>(needed, 256, kMaxStepRows)));
  }
  if (limits.max_prefill_rows() == 0) {
    limits.set_max_prefill_rows(std::min(64, limits.max_step_rows()));
  }
}

absl::StatusOr<internal::ClusterFile> ReadClusterFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat("cluster file ", path, ": ",
                                            error ? error.message() : "is not a regular file"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::PermissionDeniedError(absl::StrCat("cluster file ", path, ": ", strerror(errno)));
  }
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(file.gcount());
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat("cluster file ", path, ": longer than ",
                                                   kMaxFileBytes, " bytes, so it cannot be one"));
  }
  return ParseClusterFile(text, path);
}

absl::StatusOr<internal::ClusterFile> ParseClusterFile(const std::string& text,
                                                       const std::string& origin) {
  std::vector<FileProblem> problems;
  ParsedClusterText parsed;
  ParseClusterText(text, parsed, problems);
  CheckClusterMeaning(parsed, problems);
  if (!problems.empty()) return ProblemsToStatus(origin, std::move(problems));
  ResolvePaths(origin, parsed.cluster);
  FillDefaults(parsed.cluster);
  return std::move(parsed.cluster);
}

absl::StatusOr<const ClusterMember*> FindMember(const internal::ClusterFile& cluster,
                                                internal::Role role, const std::string& name) {
  std::vector<std::string> names;
  for (const RoleAndMember& entry : AllMembers(cluster)) {
    if (entry.role != role) continue;
    if (entry.member->name() == name) return entry.member;
    names.push_back(entry.member->name());
  }
  return absl::NotFoundError(absl::StrCat("the cluster file has no ", RoleName(role), " named \"",
                                          name, "\"; it has ",
                                          names.empty() ? "none" : absl::StrJoin(names, ", ")));
}

const std::string& ModelDir(const internal::ClusterFile& cluster, const ClusterMember& member) {
  return member.model_dir().empty() ? cluster.model().dir() : member.model_dir();
}

std::vector<RoleAndMember> AllMembers(const internal::ClusterFile& cluster) {
  std::vector<RoleAndMember> members;
  for (const ClusterMember& member : cluster.router()) {
    members.push_back({internal::ROLE_ROUTER, &member});
  }
  for (const ClusterMember& member : cluster.attention()) {
    members.push_back({internal::ROLE_ATTENTION, &member});
  }
  for (const ClusterMember& member : cluster.expert()) {
    members.push_back({internal::ROLE_EXPERT, &member});
  }
  return members;
}

internal::ClusterFile WithoutRetiring(internal::ClusterFile cluster) {
  for (auto* const members :
       {cluster.mutable_router(), cluster.mutable_attention(), cluster.mutable_expert()}) {
    members->erase(std::remove_if(members->begin(), members->end(),
                                  [](const ClusterMember& member) { return member.retiring(); }),
                   members->end());
  }
  return cluster;
}

std::vector<bool> SpareShards(const internal::ClusterFile& cluster) {
  std::vector<bool> is_spare;
  for (const ClusterMember& shard : cluster.expert()) is_spare.push_back(shard.spare());
  return is_spare;
}

std::string RoleName(internal::Role role) {
  switch (role) {
    case internal::ROLE_ROUTER:
      return "router";
    case internal::ROLE_ATTENTION:
      return "attention";
    case internal::ROLE_EXPERT:
      return "expert";
    default:
      return "member";
  }
}

}  // namespace orrery
