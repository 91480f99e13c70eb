// The threads and processors that a cluster file gives a member, in the words of the code.
#ifndef ORRERY_MODEL_CLUSTER_THREADS_H_
#define ORRERY_MODEL_CLUSTER_THREADS_H_

#include <string>

#include "kernels/factory/make_kernels.h"
#include "proto/cluster.pb.h"

namespace orrery {

// `member` is an attention or expert member of the cluster, on this machine. Without num_threads and
// cpus it gets an equal share of num_processors: of the attention and expert members whose addresses
// name the same host. INVALID_ARGUMENT for a list of processors that is none.
absl::StatusOr<CpuThreads> ThreadsFromProto(const internal::ClusterFile& cluster,
                                            const internal::ClusterMember& member,
                                            int num_processors);

// For status pages: "x86-1 avx512bf16, 4 threads", "cuda-mma-1-sm90 on cuda:1 NVIDIA H200".
std::string DescribeBackend(Backend backend, const Kernels& kernels, const Device& device,
                            const CpuThreads& threads);

}  // namespace orrery

#endif  // ORRERY_MODEL_CLUSTER_THREADS_H_
