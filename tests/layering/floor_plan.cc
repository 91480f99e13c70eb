#include "tests/layering/floor_plan.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace orrery {
namespace {

bool Contains(const std::vector<std::string_view>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

bool IsBelow(std::string_view folder, std::string_view top) {
  return folder == top || (folder.size() > top.size() && folder.substr(0, top.size()) == top &&
                           folder[top.size()] == '/');
}

}  // namespace

const std::vector<FolderRule>& FloorPlan() {
  static const auto& plan = *new std::vector<FolderRule>{
      {"base", {}},
      {"proto", {}},
      {"device", {"base"}},
      {"device/host", {"base", "device"}},
      {"device/cuda", {"base", "device"}},
      {"checkpoint/text", {"base"}},
      {"checkpoint", {"base", "checkpoint/text"}},
      {"checkpoint/store", {"base", "checkpoint"}},
      {"placement", {"base"}},
      {"kernels", {"base", "device"}},
      {"kernels/reference", {"base", "device", "kernels"}},
      {"kernels/cpu", {"base", "device", "kernels"}, {"kernels/reference"}},
      {"kernels/cuda", {"base", "device", "device/cuda", "kernels"}},
      {"kernels/factory",
       {"base", "device", "device/host", "device/cuda", "kernels", "kernels/reference",
        "kernels/cpu", "kernels/cuda"}},
      {"kernels/conformance",
       {"base", "device", "kernels", "kernels/reference", "kernels/cpu", "kernels/factory"}},
      {"model/identity", {"base", "proto", "checkpoint"}},
      {"model",
       {"base", "proto", "device", "checkpoint", "checkpoint/store", "kernels", "kernels/factory",
        "model/identity"}},
      {"rpc/tls", {"base"}},
      {"rpc", {"base", "proto", "rpc/tls"}},
      {"rpc/monitoring", {"base", "proto", "rpc"}},
      {"exchange",
       {"base", "device"},
       {"proto", "rpc", "exchange/loopback", "exchange/grpc", "exchange/shm", "exchange/factory"}},
      {"exchange/loopback", {"base", "device", "exchange"}},
      {"exchange/grpc", {"base", "device", "exchange", "proto", "rpc"}},
      {"exchange/shm", {"base", "device", "exchange"}},
      {"exchange/edge", {"base", "device", "exchange"}},
      {"exchange/nccl", {"base", "device", "device/cuda", "exchange", "exchange/edge"}},
      {"exchange/cuda_ipc", {"base", "device", "device/cuda", "exchange", "exchange/edge"}},
      {"exchange/factory",
       {"base", "device", "device/cuda", "exchange", "exchange/cuda_ipc", "exchange/grpc",
        "exchange/nccl", "exchange/shm", "rpc"}},
      {"services/router",
       {"base", "proto", "rpc", "rpc/monitoring", "checkpoint", "placement", "model/identity"}},
      {"services/attention",
       {"base", "proto", "rpc", "rpc/monitoring", "checkpoint", "placement", "device",
        "device/host", "kernels", "kernels/factory", "model/identity", "model", "exchange",
        "exchange/grpc", "exchange/factory"},
       {"exchange/loopback", "kernels/reference"}},
      {"services/expert",
       {"base", "proto", "rpc", "rpc/monitoring", "checkpoint", "placement", "device",
        "device/host", "kernels", "kernels/factory", "model/identity", "model", "exchange",
        "exchange/grpc", "exchange/shm", "exchange/factory"},
       {"exchange/loopback", "kernels/reference"}},
      {"client", {"base", "proto", "rpc"}},
      {"tests", {}, {}, /*may_include_everything=*/true},
      {"tools", {}, {}, /*may_include_everything=*/true},
  };
  return plan;
}

const std::vector<LibraryRule>& Libraries() {
  static const auto& libraries = *new std::vector<LibraryRule>{
      {"//third_party/grpc",
       {"grpc/", "grpcpp/"},
       {"proto", "rpc", "exchange/grpc", "services/router", "services/attention", "services/expert",
        "client"}},
      {"//third_party/protobuf",
       {"google/protobuf/"},
       {"proto", "rpc", "exchange/grpc", "services/router", "services/attention", "services/expert",
        "client"}},
      {"//third_party/openssl", {"openssl/"}, {"rpc/tls", "services/router"}},
      {"//third_party/boost", {"boost/"}, {"rpc/monitoring"}},
      {"//third_party/prometheus_cpp", {"prometheus/"}, {"rpc/monitoring"}},
      {"//third_party/nlohmann_json", {"nlohmann/"}, {"checkpoint/text", "checkpoint"}},
      {"//third_party/pcre2", {"pcre2.h"}, {"checkpoint/text", "checkpoint"}},
      {"//third_party/utf8proc", {"utf8proc.h"}, {"checkpoint/text", "checkpoint"}},
      {"//third_party/xxhash",
       {"xxhash.h"},
       {"checkpoint", "checkpoint/store", "exchange", "exchange/edge", "services/attention"}},
      {"@cuda//",
       {"cuda", "nccl", "cublas"},
       {"device/cuda", "kernels/cuda", "exchange/nccl", "exchange/cuda_ipc"}},
      // Not a library, but as confined: intrinsics.
      {"(intrinsics)", {"immintrin.h", "x86intrin.h"}, {"kernels/cpu"}},
  };
  return libraries;
}

const FolderRule* FindFolder(std::string_view folder) {
  for (const FolderRule& rule : FloorPlan()) {
    if (folder == rule.folder) return &rule;
    if (rule.may_include_everything && IsBelow(folder, rule.folder)) return &rule;
  }
  return nullptr;
}

bool MayInclude(const FolderRule& rule, std::string_view folder) {
  return rule.may_include_everything || folder == rule.folder || Contains(rule.may_include, folder);
}

bool TestMayInclude(const FolderRule& rule, std::string_view folder) {
  return MayInclude(rule, folder) || Contains(rule.tests_may_include, folder);
}

std::string UsersGroup(std::string_view folder) {
  return absl::StrCat("users_of_", absl::StrReplaceAll(std::string(folder), {{"/", "_"}}));
}

}  // namespace orrery
