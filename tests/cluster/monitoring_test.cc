// The monitoring port of real processes: probes, and metrics compared with the table that documents them.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/monitoring/http_test_client.h"
#include "tests/cluster/cluster_test_util.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// "gauge{carrier,peer}" by name.
using Metrics = std::map<std::string, std::string>;

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

std::string Show(const std::string& type, const std::set<std::string>& labels) {
  return absl::StrCat(type, "{", absl::StrJoin(labels, ","), "}");
}

// What is in backquotes.
std::vector<std::string> CodeSpans(const std::string& cell) {
  const std::vector<std::string> parts = absl::StrSplit(cell, '`');
  std::vector<std::string> spans;
  for (size_t i = 1; i < parts.size(); i += 2) spans.push_back(parts[i]);
  return spans;
}

// Those that the table of README.md promises for this role.
Metrics Documented(const std::string& role) {
  std::ifstream file("rpc/monitoring/README.md");
  EXPECT_TRUE(file.is_open());
  Metrics metrics;
  bool is_below = false;
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, "## ")) is_below = line == "## Metrics";
    if (!is_below || !absl::StartsWith(line, "| `")) continue;
    // "", name, type, labels, of, meaning, ""
    std::vector<std::string> cells = absl::StrSplit(line, '|');
    for (std::string& cell : cells) absl::StripAsciiWhitespace(&cell);
    if (!absl::StrContains(cells[4], role) && cells[4] != "all") continue;
    const std::vector<std::string> labels = CodeSpans(cells[3]);
    metrics[CodeSpans(cells[1])[0]] = Show(cells[2], {labels.begin(), labels.end()});
  }
  return metrics;
}

// The names in {a="x",b="y"}, without a histogram's le. No value here has a quotation mark.
std::set<std::string> LabelsOf(const std::string& sample) {
  std::set<std::string> labels;
  const size_t begin = sample.find('{');
  if (begin == std::string::npos) return labels;
  const std::vector<std::string> parts =
      absl::StrSplit(sample.substr(begin + 1, sample.rfind('}') - begin - 1), '"');
  for (size_t i = 0; i + 1 < parts.size(); i += 2) {
    std::string name = parts[i].substr(parts[i].find_first_not_of(','));
    name.pop_back();  // the equals sign
    if (name != "le") labels.insert(name);
  }
  return labels;
}

Metrics Scraped(const std::string& text) {
  Metrics metrics;
  std::string type;
  for (const std::string& line : Lines(text)) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (absl::StartsWith(line, "# TYPE ")) {
      type = words[3];
      metrics[words[2]] = "";
    } else if (!absl::StartsWith(line, "#")) {
      std::string name = line.substr(0, line.find_first_of("{ "));
      for (const char* suffix : {"_bucket", "_sum", "_count"}) {
        if (type == "histogram" && absl::EndsWith(name, suffix)) {
          name.resize(name.size() - std::string(suffix).size());
        }
      }
      metrics[name] = Show(type, LabelsOf(line));
    }
  }
  return metrics;
}

// Of the sample with exactly this name and these labels; -1 if there is none.
double Value(const std::string& text, const std::string& sample) {
  for (const std::string& line : Lines(text)) {
    double value = 0;
    if (absl::StartsWith(line, sample + " ") &&
        absl::SimpleAtod(line.substr(sample.size() + 1), &value)) {
      return value;
    }
  }
  return -1;
}

class ClusterMonitoring : public ::testing::Test {
 protected:
  void Start(Topology topology, std::set<std::string> left_out = {}) {
    LaunchOptions options = TestLaunchOptions();
    options.monitoring_port = 0;
    options.left_out = std::move(left_out);
    auto launcher = Launcher::StartLocal(topology, options);
    ASSERT_TRUE(launcher.ok()) << launcher.status();
    cluster_ = *std::move(launcher);
  }
  void StartReady(const Topology& topology) {
    Start(topology);
    const absl::Status ready = cluster_->WaitUntilReady(kPatience);
    ASSERT_TRUE(ready.ok()) << ready;
  }

  // Waits until the member has a port.
  HttpReply Get(const std::string& member, const std::string& path) {
    const absl::Time deadline = absl::Now() + kPatience;
    while (cluster_->MonitoringAddress(member).empty() && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(10));  // between two looks
    }
    return HttpGet(cluster_->MonitoringAddress(member), path);
  }
  std::string Scrape(const std::string& member) {
    const HttpReply reply = Get(member, "/metrics");
    EXPECT_EQ(reply.status, 200);
    EXPECT_THAT(reply.header, HasSubstr("Content-Type: text/plain; version=0.0.4"));
    return reply.body;
  }
  // Until the member answers with this status.
  HttpReply AwaitStatus(const std::string& member, const std::string& path, int status) {
    const absl::Time deadline = absl::Now() + kPatience;
    HttpReply reply = Get(member, path);
    while (reply.status != status && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(10));  // between two looks
      reply = Get(member, path);
    }
    EXPECT_EQ(reply.status, status) << member << path << ": " << reply.body;
    return reply;
  }
  void Ask() {
    v1::GenerateRequest request;
    *request.mutable_messages() = ReadProblems(1)[0].messages;
    auto answer = Connect(*cluster_).Generate(request, kPatience);
    EXPECT_TRUE(answer.ok()) << answer.status();
  }

  std::unique_ptr<Launcher> cluster_;
};

Topology QuicklyBalanced() {
  Topology topology = AbacusTopology(1, 2);
  topology.limits.set_balance_ms(50);
  return topology;
}

TEST_F(ClusterMonitoring, AnswersExactlyTheMetricsThatTheTableDocuments) {
  StartReady(QuicklyBalanced());
  Ask();
  const absl::Time deadline = absl::Now() + kPatience;
  while (Value(Scrape("router-0"), "orrery_router_imbalance_ratio") < 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));  // between two looks
  }
  for (const char* role : {"router", "attention", "expert"}) {
    EXPECT_EQ(Scraped(Scrape(absl::StrCat(role, "-0"))), Documented(role)) << role;
  }
}

TEST_F(ClusterMonitoring, CountersMoveWithARequest) {
  StartReady(AbacusTopology(1, 2));
  EXPECT_EQ(Value(Scrape("router-0"), "orrery_router_requests_total{code=\"OK\"}"), 0);
  const double rows_before = Value(Scrape("expert-0"), "orrery_expert_rows_total");
  Ask();
  const std::string router = Scrape("router-0"), rank = Scrape("attention-0"),
                    shard = Scrape("expert-0");
  EXPECT_EQ(Value(router, "orrery_router_requests_total{code=\"OK\"}"), 1);
  EXPECT_EQ(Value(router, "orrery_router_time_to_first_token_seconds_count"), 1);
  EXPECT_EQ(Value(router, "orrery_router_request_seconds_count"), 1);
  const double num_tokens = Value(router, "orrery_router_generated_tokens_total");
  EXPECT_GE(num_tokens, 2);
  EXPECT_EQ(Value(router, "orrery_router_inter_token_latency_seconds_count"), num_tokens - 1);
  EXPECT_EQ(Value(router, "orrery_router_member_usable{member=\"expert-1\",role=\"expert\"}"), 1);

  EXPECT_GE(Value(rank, "orrery_attention_generated_tokens_total"), num_tokens);
  EXPECT_EQ(Value(rank, "orrery_attention_prompt_tokens_total"),
            Value(router, "orrery_router_prompt_tokens_total"));
  EXPECT_GE(Value(rank, "orrery_attention_step_seconds_count"), num_tokens);
  EXPECT_GE(Value(rank, "orrery_attention_step_rows_sum"),
            Value(rank, "orrery_attention_prompt_tokens_total"));
  EXPECT_GT(Value(rank, "orrery_attention_exchange_seconds_count{peer=\"expert-1\"}"), 0);
  EXPECT_EQ(Value(rank, "orrery_attention_kv_leaked_blocks"), 0);
  EXPECT_EQ(Value(rank, "orrery_member_state{state=\"ready\"}"), 1);
  EXPECT_EQ(Value(rank, "vllm:num_requests_running{model_name=\"abacus\"}"), 0);
  EXPECT_THAT(rank, HasSubstr("model=\"abacus\""));

  EXPECT_GT(Value(shard, "orrery_expert_rows_total"), rows_before);
  EXPECT_GT(Value(shard, "orrery_expert_group_seconds_count"), 0);
  EXPECT_GT(Value(shard, "orrery_expert_held_experts"), 0);
  EXPECT_GT(Value(shard, "process_resident_memory_bytes"), 1e6);
  EXPECT_NEAR(Value(shard, "process_start_time_seconds"), absl::ToUnixSeconds(absl::Now()), 600);
}

TEST_F(ClusterMonitoring, CountsWhatWasRefused) {
  StartReady(AbacusTopology(1, 1));
  v1::GenerateRequest request;
  request.set_text("x");
  request.set_top_k(-1);
  EXPECT_FALSE(Connect(*cluster_).Generate(request, kPatience).ok());
  const std::string router = Scrape("router-0");
  EXPECT_EQ(Value(router, "orrery_router_requests_total{code=\"INVALID_ARGUMENT\"}"), 1);
  EXPECT_EQ(Value(router, "orrery_router_refusals_total{reason=\"invalid\"}"), 1);
  EXPECT_EQ(Value(router, "orrery_router_time_to_first_token_seconds_count"), 0);
}

TEST_F(ClusterMonitoring, AMemberThatLacksOthersIsStartedAndAliveButNotReady) {
  Start(AbacusTopology(1, 2), /*left_out=*/{"expert-0", "expert-1"});
  AwaitStatus("attention-0", "/startupz", 200);
  const HttpReply rank = AwaitStatus("attention-0", "/readyz", 503);
  EXPECT_THAT(rank.body, StartsWith("waiting\n"));
  EXPECT_THAT(rank.body, HasSubstr("have no holder"));
  EXPECT_EQ(Get("attention-0", "/livez").status, 200);
  const HttpReply router = AwaitStatus("router-0", "/readyz", 503);
  EXPECT_THAT(router.body, HasSubstr("no attention rank is ready"));
  EXPECT_EQ(Get("router-0", "/startupz").status, 200);
  EXPECT_EQ(Get("router-0", "/livez").status, 200);
  EXPECT_EQ(Get("router-0", "/healthz").status, 404);
}

TEST_F(ClusterMonitoring, ARankThatDrainsIsAliveButNotReady) {
  StartReady(AbacusTopology(1, 1));
  for (const char* member : {"router-0", "attention-0", "expert-0"}) {
    EXPECT_EQ(Get(member, "/readyz").body, "ready\n") << member;
    EXPECT_EQ(Get(member, "/startupz").status, 200) << member;
  }
  // Keeps the rank for as long as it takes to look: a client that does not read, with more to come than
  // connections hold.
  std::atomic<bool> has_looked = false;
  std::thread asking([&] {
    v1::GenerateRequest request;
    request.set_text("so");
    request.set_ignore_eos(true);
    request.set_max_new_tokens(4000);
    request.set_logprobs(true);
    request.set_num_top_logprobs(20);
    const auto wait = [&](const v1::Delta&) {
      has_looked.wait(false);
      return false;
    };
    const absl::Status end = Connect(*cluster_).Generate(request, kPatience, wait).status();
    EXPECT_EQ(end.code(), absl::StatusCode::kCancelled);
  });
  const absl::Time deadline = absl::Now() + kPatience;
  while (Value(Scrape("attention-0"), "orrery_attention_running_sequences") < 1 &&
         absl::Now() < deadline) {
  }
  EXPECT_EQ(Get("attention-0", "/livez").status, 200);
  ASSERT_EQ(cluster_->Kill("attention-0", SIGTERM), absl::OkStatus());
  const HttpReply draining = AwaitStatus("attention-0", "/readyz", 503);
  EXPECT_EQ(draining.body, "draining\nthis rank is draining\n");
  EXPECT_EQ(Get("attention-0", "/livez").status, 200);
  EXPECT_EQ(Value(Scrape("attention-0"), "orrery_member_state{state=\"draining\"}"), 1);
  // Its router has nobody left.
  EXPECT_THAT(AwaitStatus("router-0", "/readyz", 503).body, HasSubstr("draining"));
  has_looked = true;
  has_looked.notify_all();
  asking.join();
  const auto exit = cluster_->WaitForExit("attention-0", absl::Now() + kPatience);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->code, 0);
}

TEST_F(ClusterMonitoring, PromtoolAcceptsAllButTheAliases) {
  if (std::system("promtool --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP()
        << "SKIPPED, nothing was checked: there is no promtool (Debian package prometheus)";
  }
  StartReady(QuicklyBalanced());
  Ask();
  for (const char* member : {"router-0", "attention-0", "expert-0"}) {
    std::vector<std::string> lines = Lines(Scrape(member));
    std::erase_if(lines, [](const std::string& line) { return absl::StrContains(line, "vllm:"); });
    const std::string path = absl::StrCat(::testing::TempDir(), "/", member, ".prom");
    std::ofstream(path) << absl::StrJoin(lines, "\n") << "\n";
    const std::string complaints = absl::StrCat(path, ".complaints");
    const int code = std::system(
        absl::StrCat("promtool check metrics <", path, " >", complaints, " 2>&1").c_str());
    std::ifstream said(complaints);
    EXPECT_EQ(code, 0) << member << ": " << std::string(std::istreambuf_iterator<char>(said), {});
  }
}

}  // namespace
}  // namespace orrery
