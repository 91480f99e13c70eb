// Which member of the cluster file this process is.
//
//   const std::string name = OwnName(absl::GetFlag(FLAGS_name));   // "expert-3"
//
// Where nobody says, it is the host's name: in a pod that is the pod's, so that all pods of a set run one command line.
// Threads: any. No errors: a host without a name gives "", which is no member's.
#ifndef ORRERY_RPC_OWN_NAME_H_
#define ORRERY_RPC_OWN_NAME_H_

#include <unistd.h>

#include <string>

namespace orrery {

inline std::string OwnName(const std::string& flag) {
  if (!flag.empty()) return flag;
  char host[256] = {};  // longer than HOST_NAME_MAX, so that it ends with a zero
  return ::gethostname(host, sizeof(host) - 1) == 0 ? host : "";
}

}  // namespace orrery

#endif  // ORRERY_RPC_OWN_NAME_H_
