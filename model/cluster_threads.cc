#include "model/cluster_threads.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/processors.h"

namespace orrery {
namespace {

std::string_view HostOf(const internal::ClusterMember& member) {
  const std::string_view address = member.address();
  return address.substr(0, address.rfind(':'));
}

}  // namespace

absl::StatusOr<CpuThreads> ThreadsFromProto(const internal::ClusterFile& cluster,
                                            const internal::ClusterMember& member,
                                            int num_processors) {
  CpuThreads threads;
  ASSIGN_OR_RETURN(threads.cpus, ParseCpuList(member.cpus()));
  threads.num_threads = member.num_threads();
  if (threads.num_threads == 0) threads.num_threads = static_cast<int>(threads.cpus.size());
  if (threads.num_threads == 0) {
    const auto is_here = [&](const internal::ClusterMember& other) {
      return HostOf(other) == HostOf(member);
    };
    const auto num_here =
        std::count_if(cluster.attention().begin(), cluster.attention().end(), is_here) +
        std::count_if(cluster.expert().begin(), cluster.expert().end(), is_here);
    threads.num_threads = std::max(1, num_processors / std::max(1, static_cast<int>(num_here)));
  }
  return threads;
}

std::string DescribeBackend(Backend backend, const Kernels& kernels, const Device& device,
                            const CpuThreads& threads) {
  if (backend == Backend::kCuda) {
    return absl::StrCat(std::string(kernels.family()), " on ", device.name());
  }
  return absl::StrCat(std::string(kernels.family()), " ", std::string(kernels.variant()), ", ",
                      threads.num_threads, threads.num_threads == 1 ? " thread" : " threads");
}

}  // namespace orrery
