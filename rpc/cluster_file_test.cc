#include "rpc/cluster_file.h"

#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kGood[] = R"(# two ranks, one shard
model { name: "abacus" dir: "models/abacus" }
numerics { precision: PRECISION_F32 }
limits { max_waiting_requests: 7 }
tls { certificate: "tls/a.pem" private_key: "/etc/a.key" ca: "ca.pem" }
router { name: "router-0" address: "127.0.0.1:7400" }
attention { name: "attention-0" address: "127.0.0.1:7410" }
attention { name: "attention-1" address: "[::1]:7410" }
expert { name: "expert-0" address: "expert-0.example:7420" model_dir: "part" }
resume_key_file: "resume.key"
)";

std::string ProblemsOf(const std::string& text) {
  const auto cluster = ParseClusterFile(text, "c.txt");
  if (cluster.ok()) return "";
  EXPECT_EQ(cluster.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(cluster.status().message());
}

// The good file with one line put in the place of another.
std::string Replaced(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ClusterFile, ComesOutCompleteWithDefaultsAndResolvedPaths) {
  const auto cluster = ParseClusterFile(kGood, "/etc/orrery/cluster.txtpb");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->model().dir(), "/etc/orrery/models/abacus");
  EXPECT_EQ(cluster->tls().certificate(), "/etc/orrery/tls/a.pem");
  EXPECT_EQ(cluster->tls().private_key(), "/etc/a.key");
  EXPECT_EQ(cluster->resume_key_file(), "/etc/orrery/resume.key");
  EXPECT_EQ(cluster->numerics().row_format(), internal::ROW_FORMAT_F32);
  EXPECT_EQ(cluster->numerics().backend(), internal::BACKEND_CPU);
  EXPECT_EQ(cluster->limits().max_waiting_requests(), 7);
  EXPECT_EQ(cluster->limits().expert_timeout_ms(), 30000);
  EXPECT_EQ(cluster->limits().min_hedge_ms(), 50);
  EXPECT_EQ(cluster->limits().max_hedge_ms(), 7500);
  EXPECT_EQ(cluster->limits().max_hedge_percent(), 5);
  EXPECT_EQ(cluster->limits().max_failed_shards(), 0);  // of one
  EXPECT_EQ(cluster->limits().drain_ms(), 10000);
  EXPECT_EQ(cluster->limits().audit_one_in(), 10000);
  EXPECT_EQ(cluster->limits().balance_ms(), 10000);
  EXPECT_EQ(ModelDir(*cluster, cluster->attention(0)), "/etc/orrery/models/abacus");
  EXPECT_EQ(ModelDir(*cluster, cluster->expert(0)), "/etc/orrery/part");
  EXPECT_EQ(AllMembers(*cluster).size(), 4);
}

TEST(ClusterFile, KeepsRelativePathsWhenTheFileLiesInTheCurrentFolder) {
  const auto cluster = ParseClusterFile(kGood, "cluster.txtpb");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->model().dir(), "models/abacus");
}

TEST(ClusterFile, FindsMembersByRoleAndNameAndListsTheKnownOnes) {
  const auto cluster = ParseClusterFile(kGood, "c.txt");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  const auto found = FindMember(*cluster, internal::ROLE_ATTENTION, "attention-1");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->address(), "[::1]:7410");
  const auto missing = FindMember(*cluster, internal::ROLE_ATTENTION, "expert-0");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()),
              AllOf(HasSubstr("\"expert-0\""), HasSubstr("attention-0, attention-1")));
}

TEST(ClusterFile, ReportsAllProblemsAtOnceWithTheirPlaces) {
  const std::string problems = ProblemsOf(R"(model { name: "m" colour: "red" }
numerics {
  precision: PRECISION_FP4 row_format: 77
}
limits { max_step_rows: -3 }
router { name: "router-0" address: "127.0.0.1" }
attention { name: "a b" address: "h:70000" }
attention { name: "router-0" address: ":1" }
expert { name: "e-0" address: "h:1" }
  expert { name: "e-1" address: "H:1" }
allow_plain_text: true
)");
  EXPECT_THAT(problems, HasSubstr("has 11 problems"));
  EXPECT_THAT(problems, HasSubstr("c.txt:1:1: model.dir is missing"));
  EXPECT_THAT(problems, AllOf(HasSubstr("c.txt:1:19: "), HasSubstr("colour")));
  EXPECT_THAT(problems, AllOf(HasSubstr("c.txt:3:14: "), HasSubstr("PRECISION_FP4")));
  EXPECT_THAT(problems, HasSubstr("c.txt:3:28: numerics.row_format has no value 77"));
  EXPECT_THAT(problems, HasSubstr("c.txt:5:10: limits.max_step_rows is -3, must be 0 to 65536"));
  EXPECT_THAT(problems, HasSubstr("c.txt:6:27: bad address \"127.0.0.1\": no port"));
  EXPECT_THAT(problems, HasSubstr("c.txt:7:13: bad name \"a b\""));
  EXPECT_THAT(problems, HasSubstr("c.txt:7:25: bad address \"h:70000\": port \"70000\""));
  EXPECT_THAT(problems, HasSubstr("c.txt:8:13: duplicate name \"router-0\", first in line 6"));
  EXPECT_THAT(problems, HasSubstr("c.txt:8:30: bad address \":1\": no host"));
  EXPECT_THAT(problems, HasSubstr("c.txt:10:24: duplicate address \"h:1\", first in line 9"));
}

TEST(ClusterFile, SaysWhatFp8ProductsNeed) {
  const auto problems_of = [](const std::string& numerics) {
    return ProblemsOf("model { name: \"m\" dir: \"d\" }\nnumerics { ffn_products: " + numerics +
                      " }\nrouter { name: \"r\" address: \"h:1\" }\nlimits { max_step_rows: -3 }\n"
                      "attention { name: \"a\" address: \"h:2\" }\n");
  };
  EXPECT_THAT(problems_of("PRODUCT_FORMAT_FP8"),
              AllOf(HasSubstr("c.txt:2:12: numerics.ffn_products PRODUCT_FORMAT_FP8 needs backend"),
                    Not(HasSubstr("needs ffn_weights"))));
  EXPECT_THAT(
      problems_of("PRODUCT_FORMAT_FP8 backend: BACKEND_CUDA ffn_weights: WEIGHT_FORMAT_INT8"),
      AllOf(HasSubstr("needs ffn_weights WEIGHT_FORMAT_STORED"), Not(HasSubstr("needs backend"))));
  EXPECT_THAT(problems_of("PRODUCT_FORMAT_FP8 backend: BACKEND_CUDA"),
              Not(HasSubstr("ffn_products")));
}

TEST(ClusterFile, ChecksThreadsAndProcessorsOfAMember) {
  const std::string problems = ProblemsOf(R"(model { name: "m" dir: "d" }
router { name: "r" address: "h:1" cpus: "0" }
attention { name: "a" address: "h:2" num_threads: 5000 }
attention { name: "b" address: "h:3" cpus: "7-0" }
expert { name: "c" address: "h:4" cpus: "0-1,5" num_threads: 4 }
expert { name: "d" address: "h:5" cpus: "0-1,5" num_threads: 3 }
allow_plain_text: true
)");
  EXPECT_THAT(problems, HasSubstr("has 4 problems"));
  EXPECT_THAT(problems, HasSubstr("c.txt:2:35: a router computes nothing"));
  EXPECT_THAT(problems,
              HasSubstr("c.txt:3:38: attention \"a\": num_threads is 5000, must be 0 to 4096"));
  EXPECT_THAT(problems, HasSubstr("c.txt:4:38: processors \"7-0\""));
  EXPECT_THAT(problems,
              HasSubstr("c.txt:5:49: expert \"c\": num_threads is 4, more than its 3 cpus"));
}

TEST(ClusterFile, ChecksTheGpuOfAMember) {
  const std::string problems = ProblemsOf(R"(model { name: "m" dir: "d" }
router { name: "r" address: "h:1" gpu: 1 }
attention { name: "a" address: "h:2" gpu: -1 }
expert { name: "b" address: "h:3" gpu: 7 }
allow_plain_text: true
)");
  EXPECT_THAT(problems, HasSubstr("has 2 problems"));
  EXPECT_THAT(problems, HasSubstr("c.txt:2:35: a router computes nothing"));
  EXPECT_THAT(problems, HasSubstr("c.txt:3:38: attention \"a\": gpu is -1, must be 0 or more"));
}

TEST(ClusterFile, GoesOnBehindASyntaxError) {
  const std::string problems =
      ProblemsOf(Replaced("limits { max_waiting_requests: 7 }",
                          "limits { max_waiting_requests: \"many\" }\nlimits { max_step_rows: }"));
  EXPECT_THAT(problems, HasSubstr("has 2 problems"));
  EXPECT_THAT(problems, HasSubstr("c.txt:4:32: "));
  EXPECT_THAT(problems, HasSubstr("c.txt:5:25: "));
}

TEST(ClusterFile, DoesNotCallMissingWhatASyntaxErrorHides) {
  const std::string problems =
      ProblemsOf(Replaced("router { name: \"router-0\"", "router { name = \"router-0\""));
  EXPECT_THAT(problems, HasSubstr("c.txt:6:15: "));
  EXPECT_THAT(problems, Not(HasSubstr("no router")));
  EXPECT_THAT(problems, HasSubstr("has 1 problem:"));
}

TEST(ClusterFile, SaysWhatAnEmptyFileLacks) {
  EXPECT_THAT(ProblemsOf(""), AllOf(HasSubstr("model.name is missing"), HasSubstr("no router"),
                                    HasSubstr("no attention rank")));
}

TEST(ClusterFile, RefusesHalfGivenTls) {
  EXPECT_THAT(
      ProblemsOf(Replaced(" private_key: \"/etc/a.key\" ca: \"ca.pem\"", "")),
      AllOf(HasSubstr("c.txt:5:1: tls.private_key is missing"), HasSubstr("tls.ca is missing")));
}

TEST(ClusterFile, RefusesNamesThatNoCertificateHas) {
  const std::string problems =
      ProblemsOf(Replaced("ca: \"ca.pem\"", "ca: \"ca.pem\" trust_domain: \"a/b\" client: \"me\""));
  EXPECT_THAT(problems, AllOf(HasSubstr("tls.trust_domain: bad trust domain \"a/b\""),
                              HasSubstr("tls.client \"me\" is no URI")));
}

TEST(ClusterFile, SpeaksPlainTextOnlyOnThisMachineUnlessAllowed) {
  const std::string plain =
      Replaced("tls { certificate: \"tls/a.pem\" private_key: \"/etc/a.key\" ca: \"ca.pem\" }", "");
  EXPECT_THAT(ProblemsOf(plain),
              AllOf(HasSubstr("has 1 problem"),
                    HasSubstr("c.txt:9:27: without tls, expert "
                              "\"expert-0\""),
                    HasSubstr("orrery certs"), HasSubstr("allow_plain_text: true")));
  EXPECT_EQ(ProblemsOf(plain + "allow_plain_text: true\n"), "");
}

TEST(ClusterFile, WithEncryptionRequiredRowsGoOverGrpcAndNothingElse) {
  const std::string required = absl::StrCat(kGood, "require_encryption: true\n");
  EXPECT_EQ(ParseClusterFile(kGood, "c.txt")->exchange(), internal::EXCHANGE_AUTO);
  EXPECT_EQ(ParseClusterFile(required, "c.txt")->exchange(), internal::EXCHANGE_GRPC);
  for (const char* exchange : {"EXCHANGE_SHM", "EXCHANGE_NCCL", "EXCHANGE_CUDA_IPC"}) {
    EXPECT_THAT(ProblemsOf(absl::StrCat(required, "exchange: ", exchange, "\n")),
                AllOf(HasSubstr(exchange), HasSubstr("require_encryption"), HasSubstr("12:1:")));
  }
  EXPECT_THAT(ProblemsOf(absl::StrCat(
                  Replaced("tls { certificate: \"tls/a.pem\" private_key: \"/etc/a.key\" ca: "
                           "\"ca.pem\" }",
                           "allow_plain_text: true"),
                  "require_encryption: true\n")),
              HasSubstr("c.txt:11:1: require_encryption needs tls"));
}

// The limits of the good file with these in the place of its own; empty if they are refused.
internal::Limits LimitsOf(const std::string& text) {
  const auto cluster = ParseClusterFile(Replaced("max_waiting_requests: 7", text), "c.txt");
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? cluster->limits() : internal::Limits();
}

TEST(ClusterFile, FillsInTheLimitsOfAStepButLeavesTheModelsToTheModel) {
  const internal::Limits limits = LimitsOf("");
  EXPECT_EQ(limits.max_step_rows(), 256);
  EXPECT_EQ(limits.max_prefill_rows(), 64);
  EXPECT_EQ(limits.max_running_sequences(), 64);
  EXPECT_EQ(limits.num_draft_tokens(), 0);
  EXPECT_EQ(limits.kv_cache_bytes(), 0);
  EXPECT_EQ(limits.max_context_tokens(), 0);
  EXPECT_FALSE(limits.share_prefix_cache());
}

TEST(ClusterFile, LetsTheRowsOfAStepAndTheRunningSequencesFollowEachOther) {
  EXPECT_EQ(LimitsOf("num_draft_tokens: 4").max_step_rows(), 320);
  EXPECT_EQ(LimitsOf("max_running_sequences: 500").max_step_rows(), 500);
  const internal::Limits small = LimitsOf("max_step_rows: 16 num_draft_tokens: 2");
  EXPECT_EQ(small.max_running_sequences(), 5);
  EXPECT_EQ(small.max_prefill_rows(), 16);
}

TEST(ClusterFile, RefusesMoreRunningSequencesThanAStepHasRowsFor) {
  EXPECT_THAT(
      ProblemsOf(Replaced("max_waiting_requests: 7",
                          "max_step_rows: 64 max_running_sequences: 32 num_draft_tokens: 2")),
      AllOf(HasSubstr("c.txt:4:10: limits.max_step_rows is 64"), HasSubstr("32 running"),
            HasSubstr("need 96"), HasSubstr("raise it")));
  EXPECT_THAT(
      ProblemsOf(Replaced("max_waiting_requests: 7", "max_step_rows: 2 num_draft_tokens: 3")),
      HasSubstr("need 4"));
}

TEST(ClusterFile, OneShardOfSeveralMayFailUnlessToldOtherwise) {
  const std::string second = "expert { name: \"expert-1\" address: \"h:1\" }\n";
  const auto cluster = ParseClusterFile(kGood + second, "c.txt");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->limits().max_failed_shards(), 1);
}

// A spare is not counted on.
TEST(ClusterFile, KnowsWhichShardsAreSpareAndThatOneMustNotBe) {
  const std::string second = "expert { name: \"expert-1\" address: \"h:1\" spare: true }\n";
  const auto cluster = ParseClusterFile(kGood + second, "c.txt");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(SpareShards(*cluster), (std::vector<bool>{false, true}));
  EXPECT_EQ(cluster->limits().max_failed_shards(), 0);

  EXPECT_THAT(ProblemsOf(Replaced("router {", "router { spare: true")),
              HasSubstr("every router member is spare or retiring: at least one must be neither"));
}

TEST(ClusterFile, RefusesANegativeMemoryBudget) {
  EXPECT_THAT(ProblemsOf(Replaced("expert {", "expert { memory_bytes: -4")),
              HasSubstr("expert \"expert-0\": memory_bytes is -4, must be 0"));
}

TEST(ClusterFile, RanksAndShardsSeeNoneThatRetires) {
  const std::string old =
      "attention { name: \"attention-9\" address: \"h:1\" retiring: true }\n"
      "expert { name: \"expert-9\" address: \"h:2\" retiring: true }\n";
  const auto cluster = ParseClusterFile(kGood + old, "c.txt");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->limits().max_failed_shards(), 0);
  const internal::ClusterFile seen = WithoutRetiring(*cluster);
  EXPECT_TRUE(FindMember(*cluster, internal::ROLE_EXPERT, "expert-9").ok());
  EXPECT_FALSE(FindMember(seen, internal::ROLE_EXPERT, "expert-9").ok());
  EXPECT_FALSE(FindMember(seen, internal::ROLE_ATTENTION, "attention-9").ok());
  EXPECT_EQ(AllMembers(seen).size() + 2, AllMembers(*cluster).size());

  EXPECT_THAT(ProblemsOf(Replaced("expert {", "expert { retiring: true")),
              HasSubstr("every expert member is spare or retiring"));
  EXPECT_THAT(ProblemsOf(Replaced("router {", "router { retiring: true")),
              HasSubstr("cannot retire: it serves the ranks of both"));
}

TEST(ClusterFile, RefusesLimitsOutsideTheirRange) {
  for (const auto& [limits, expected] :
       {std::pair{"num_draft_tokens: 5", "limits.num_draft_tokens is 5, must be 0 to 4"},
        {"num_draft_tokens: -1", "limits.num_draft_tokens is -1"},
        {"kv_cache_bytes: -1", "limits.kv_cache_bytes is -1, must be 0 to 70368744177664"},
        {"max_running_sequences: 65537", "limits.max_running_sequences is 65537"},
        {"max_prefill_rows: -2147483648", "limits.max_prefill_rows is -2147483648"},
        {"max_step_rows: 128 max_prefill_rows: 129", "more than limits.max_step_rows, 128"},
        {"max_running_sequences: 65536 num_draft_tokens: 1", "need 131072"},
        {"max_failed_shards: 1", "limits.max_failed_shards is 1, must be 0 to 0"},
        {"heir_bytes: -1", "limits.heir_bytes is -1"},
        {"min_hedge_ms: 200 max_hedge_ms: 100", "more than limits.max_hedge_ms, 100"},
        {"expert_timeout_ms: 500 max_hedge_ms: 501", "more than limits.expert_timeout_ms, 500"},
        {"expert_timeout_ms: 500 min_hedge_ms: 501", "more than limits.max_hedge_ms, 500"},
        {"max_hedge_percent: 101", "limits.max_hedge_percent is 101, must be 0 to 100"},
        {"drain_ms: -1", "limits.drain_ms is -1"},
        {"audit_one_in: -1", "limits.audit_one_in is -1"},
        {"max_waiting_tokens: -1", "limits.max_waiting_tokens is -1"}}) {
    EXPECT_THAT(ProblemsOf(Replaced("max_waiting_requests: 7", limits)), HasSubstr(expected));
  }
}

TEST(ClusterFile, SurvivesEveryTruncationAndGarbage) {
  const std::string good = kGood;
  for (size_t length = 0; length < good.size(); ++length) {
    ParseClusterFile(good.substr(0, length), "c.txt").IgnoreError();
    std::string broken = good;
    broken[length] = '{';
    ParseClusterFile(broken, "c.txt").IgnoreError();
    broken[length] = '\xff';
    ParseClusterFile(broken, "c.txt").IgnoreError();
  }
}

TEST(ClusterFile, NamesAFileThatIsNotThere) {
  const auto cluster = ReadClusterFile("/nowhere/cluster.txtpb");
  EXPECT_EQ(cluster.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(cluster.status().message()), HasSubstr("/nowhere/cluster.txtpb"));
  EXPECT_EQ(ReadClusterFile("/").status().code(), absl::StatusCode::kNotFound);
}

TEST(ClusterFile, ReadsFromDisk) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/cluster.txtpb");
  std::ofstream(path) << kGood;
  const auto cluster = ReadClusterFile(path);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->router(0).name(), "router-0");
}

}  // namespace
}  // namespace orrery
