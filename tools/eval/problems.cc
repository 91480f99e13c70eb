#include "tools/eval/problems.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

absl::StatusOr<ChatMessage::Role> ParseRole(const std::string& role) {
  if (role == "system") return ChatMessage::Role::kSystem;
  if (role == "user") return ChatMessage::Role::kUser;
  if (role == "assistant") return ChatMessage::Role::kAssistant;
  return absl::InvalidArgumentError(
      absl::StrCat("role \"", role, "\" must be system, user or assistant"));
}

absl::StatusOr<Problem> ParseProblem(const std::string& line) {
  try {
    const nlohmann::json json = nlohmann::json::parse(line);
    Problem problem;
    const nlohmann::json& id = json.at("id");
    problem.id = id.is_string() ? id.get<std::string>() : id.dump();
    problem.family = json.value("family", std::string("all"));
    problem.answer = json.at("answer").get<std::string>();
    for (const nlohmann::json& message : json.at("messages")) {
      ASSIGN_OR_RETURN(const ChatMessage::Role role,
                       ParseRole(message.at("role").get<std::string>()));
      problem.messages.push_back(
          {.role = role, .content = message.at("content").get<std::string>()});
    }
    problem.prompt_ids = json.value("prompt_ids", std::vector<int32_t>());
    problem.reference_ids = json.value("reference_ids", std::vector<int32_t>());
    problem.min_top2_gap = json.value("min_top2_gap", problem.min_top2_gap);
    return problem;
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(e.what());
  }
}

}  // namespace

absl::StatusOr<std::vector<Problem>> ReadProblems(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  std::vector<Problem> problems;
  std::string line;
  for (int line_number = 1; std::getline(file, line); ++line_number) {
    if (line.empty()) continue;
    absl::StatusOr<Problem> problem = ParseProblem(line);
    if (!problem.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", line_number, ": ", problem.status().message()));
    }
    problems.push_back(*std::move(problem));
  }
  if (problems.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " holds no problem"));
  return problems;
}

}  // namespace orrery
