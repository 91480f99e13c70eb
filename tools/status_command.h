// orrery status: the members of a running cluster, and what is wrong with them.
#ifndef ORRERY_TOOLS_STATUS_COMMAND_H_
#define ORRERY_TOOLS_STATUS_COMMAND_H_

#include <string>
#include <vector>

#include "proto/orrery.pb.h"

namespace orrery {

// Exit code 1 if no request could be answered now.
int RunStatus(const std::vector<std::string>& arguments);

// The table, one line per member, and one per problem below it.
std::string StatusTable(const v1::ClusterStatusResponse& status);

}  // namespace orrery

#endif  // ORRERY_TOOLS_STATUS_COMMAND_H_
