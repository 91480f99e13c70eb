#include "tests/cluster/cluster_test_util.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "rpc/cluster_tls.h"

namespace orrery {

LaunchOptions TestLaunchOptions() {
  LaunchOptions options;
  options.bin_dir = ".";  // tests run where Bazel laid their data out
  options.temp_dir = ::testing::TempDir();
  return options;
}

Topology AbacusTopology(int num_ranks, int num_shards, internal::Precision precision) {
  Topology topology;
  topology.model_dir = kAbacusDir;
  topology.model_name = "abacus";
  topology.num_ranks = num_ranks;
  topology.num_shards = num_shards;
  topology.numerics.set_precision(precision);
  return topology;
}

std::unique_ptr<Launcher> StartReady(const Topology& topology) {
  auto launcher = Launcher::StartLocal(topology, TestLaunchOptions());
  EXPECT_TRUE(launcher.ok()) << launcher.status();
  if (!launcher.ok()) return nullptr;
  const absl::Status ready = (*launcher)->WaitUntilReady(kPatience);
  EXPECT_TRUE(ready.ok()) << ready;
  return ready.ok() ? *std::move(launcher) : nullptr;
}

std::unique_ptr<Launcher> StartFrom(const internal::ClusterFile& cluster,
                                    const LaunchOptions& options) {
  static int num_files = 0;
  const std::string path = absl::StrCat(::testing::TempDir(), "/cluster-", num_files++, ".txtpb");
  const absl::Status written = WriteClusterFile(cluster, path);
  EXPECT_TRUE(written.ok()) << written;
  auto launcher = Launcher::StartFile(path, options);
  EXPECT_TRUE(launcher.ok()) << launcher.status();
  return launcher.ok() ? *std::move(launcher) : nullptr;
}

OrreryClient Connect(const Launcher& cluster) {
  std::vector<std::string> addresses;
  for (const internal::ClusterMember& router : cluster.cluster().router()) {
    addresses.push_back(router.address());
  }
  auto client = OrreryClient::Connect(addresses, ClientTls(cluster.cluster()), kPatience);
  EXPECT_TRUE(client.ok()) << client.status();
  return *std::move(client);
}

std::vector<Problem> ReadProblems(int num_problems) {
  std::ifstream file(absl::StrCat(kAbacusDir, "/eval.jsonl"));
  EXPECT_TRUE(file.is_open());
  std::vector<Problem> problems;
  std::set<std::string> families;
  std::string line;
  while (static_cast<int>(problems.size()) < num_problems && std::getline(file, line)) {
    const nlohmann::json json = nlohmann::json::parse(line);
    if (!json["reference_correct"].get<bool>()) continue;
    if (!families.insert(json["family"].get<std::string>()).second) continue;
    Problem problem;
    for (const nlohmann::json& message : json["messages"]) {
      const std::string role = message["role"];
      v1::ChatMessage& added = *problem.messages.add_message();
      added.set_role(role == "user"     ? v1::MESSAGE_ROLE_USER
                     : role == "system" ? v1::MESSAGE_ROLE_SYSTEM
                                        : v1::MESSAGE_ROLE_ASSISTANT);
      added.set_content(message["content"]);
    }
    problem.answer = json["answer"];
    problem.prompt_ids = json["prompt_ids"].get<std::vector<int32_t>>();
    problem.reference_ids = json["reference_ids"].get<std::vector<int32_t>>();
    problems.push_back(std::move(problem));
  }
  EXPECT_EQ(problems.size(), num_problems);
  return problems;
}

std::string MakeModelWithOtherWeights() {
  namespace fs = std::filesystem;
  const fs::path dir = fs::path(::testing::TempDir()) / "other-weights";
  fs::create_directories(dir);
  for (const auto& entry : fs::directory_iterator(kAbacusDir)) {
    if (entry.path().extension() == ".jsonl") continue;
    fs::copy_file(entry.path(), dir / entry.path().filename(),
                  fs::copy_options::overwrite_existing);
    fs::permissions(dir / entry.path().filename(), fs::perms::owner_write, fs::perm_options::add);
  }
  // Little-endian bf16: the second byte from the end is the low half of the last weight.
  std::fstream weights(dir / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  weights.seekg(-2, std::ios::end);
  const int byte = weights.get();
  weights.seekp(-2, std::ios::end);
  weights.put(static_cast<char>(byte ^ 1));
  EXPECT_TRUE(weights.good());
  return dir.string();
}

}  // namespace orrery
