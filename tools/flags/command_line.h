// Flags of a subcommand: absl flags, but only those of the files that the command names, and with
// errors returned.
//
//   ASSIGN_OR_RETURN(std::vector<std::string> rest,
//                    ParseFlags({"--ranks=2", "file.jsonl"}, {"tools/flags/cluster_flags.cc"}));
//
// Understands --name=value, --name value, --name and --noname for booleans, and "--" before
// arguments that look like flags. A flag of another command is as unknown as a misspelt one.
// Errors: INVALID_ARGUMENT, one sentence.
#ifndef ORRERY_TOOLS_FLAGS_COMMAND_LINE_H_
#define ORRERY_TOOLS_FLAGS_COMMAND_LINE_H_

#include <string>
#include <vector>

#include "base/status.h"

namespace orrery {

// Sets the flags; returns the arguments that are none. `flag_files`: sources whose ABSL_FLAGs
// belong to the command.
absl::StatusOr<std::vector<std::string>> ParseFlags(const std::vector<std::string>& arguments,
                                                    const std::vector<std::string>& flag_files);

// The flag files of a command bring more flags along than one form of it has a use for.
// INVALID_ARGUMENT if another one than `names` is set. form: "check golden".
absl::Status AllowOnly(const std::string& form, const std::vector<std::string>& names);

// Says on stderr why `orrery COMMAND` could not be done. Its exit code: 2 for what was asked wrongly, else 1.
int Fail(const std::string& command, const absl::Status& why);

// One line per flag: name, default, what it is for.
std::string FlagsHelp(const std::vector<std::string>& flag_files);

}  // namespace orrery

#endif  // ORRERY_TOOLS_FLAGS_COMMAND_LINE_H_
