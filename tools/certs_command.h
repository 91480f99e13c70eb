// orrery certs: a development CA, and certificates for each role.
#ifndef ORRERY_TOOLS_CERTS_COMMAND_H_
#define ORRERY_TOOLS_CERTS_COMMAND_H_

#include <string>
#include <vector>

namespace orrery {

int RunCerts(const std::vector<std::string>& arguments);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CERTS_COMMAND_H_
