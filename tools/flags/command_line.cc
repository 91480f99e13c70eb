#include "tools/flags/command_line.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace orrery {
namespace {

bool BelongsTo(const absl::CommandLineFlag& flag, const std::vector<std::string>& flag_files) {
  return std::any_of(flag_files.begin(), flag_files.end(), [&](const std::string& file) {
    return absl::EndsWith(flag.Filename(), file);
  });
}

absl::CommandLineFlag* FindFlag(const std::string& name,
                                const std::vector<std::string>& flag_files) {
  absl::CommandLineFlag* const flag = absl::FindCommandLineFlag(name);
  return flag != nullptr && BelongsTo(*flag, flag_files) ? flag : nullptr;
}

// Without the leading dashes, cut at '='. --force-routing is --force_routing.
struct Argument {
  std::string name;
  std::optional<std::string> value;
};

Argument Split(const std::string& text) {
  const size_t begin = text.find_first_not_of('-');
  const size_t equals = text.find('=', begin);
  std::string name = text.substr(begin, equals == std::string::npos ? equals : equals - begin);
  std::replace(name.begin(), name.end(), '-', '_');
  if (equals == std::string::npos) return {std::move(name), std::nullopt};
  return {std::move(name), text.substr(equals + 1)};
}

bool LooksLikeFlag(const std::string& text) {
  return text.size() > 1 && text[0] == '-' && text.find_first_not_of('-') != std::string::npos;
}

absl::Status Set(absl::CommandLineFlag& flag, const std::string& value) {
  std::string error;
  if (flag.ParseFrom(value, &error)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag.Name(), " cannot be \"", value, "\"",
                                                 error.empty() ? "" : ": ", error));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseFlags(const std::vector<std::string>& arguments,
                                                    const std::vector<std::string>& flag_files) {
  std::vector<std::string> rest;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--") {
      rest.insert(rest.end(), arguments.begin() + i + 1, arguments.end());
      break;
    }
    if (!LooksLikeFlag(arguments[i])) {
      rest.push_back(arguments[i]);
      continue;
    }
    Argument argument = Split(arguments[i]);
    absl::CommandLineFlag* flag = FindFlag(argument.name, flag_files);
    if (flag == nullptr && absl::StartsWith(argument.name, "no") && !argument.value.has_value()) {
      flag = FindFlag(argument.name.substr(2), flag_files);
      if (flag != nullptr && !flag->IsOfType<bool>()) flag = nullptr;
      argument.value = "false";
    }
    if (flag == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag ", arguments[i]));
    }
    if (!argument.value.has_value() && flag->IsOfType<bool>()) argument.value = "true";
    if (!argument.value.has_value()) {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError(absl::StrCat("--", flag->Name(), " needs a value"));
      }
      argument.value = arguments[++i];
    }
    RETURN_IF_ERROR(Set(*flag, *argument.value));
  }
  return rest;
}

absl::Status AllowOnly(const std::string& form, const std::vector<std::string>& names) {
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (flag->CurrentValue() == flag->DefaultValue() || absl::c_linear_search(names, name)) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat("`orrery ", form, "` has no use for --", name,
                                                   "; it takes --", absl::StrJoin(names, ", --")));
  }
  return absl::OkStatus();
}

int Fail(const std::string& command, const absl::Status& why) {
  std::fprintf(stderr, "orrery %s: %s\n", command.c_str(), std::string(why.message()).c_str());
  return absl::IsInvalidArgument(why) ? 2 : 1;
}

std::string FlagsHelp(const std::vector<std::string>& flag_files) {
  std::map<std::string, std::string> lines;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (!BelongsTo(*flag, flag_files)) continue;
    const std::string value = flag->DefaultValue();
    const std::string shown =
        absl::StrCat("--", name, value.empty() || value == "false" ? "" : absl::StrCat("=", value));
    lines[std::string(name)] = absl::StrFormat("  %-26s %s\n", shown, flag->Help());
  }
  std::string help;
  for (const auto& [name, line] : lines) help += line;
  return help;
}

}  // namespace orrery
