// The Jinja source is cut into tags, each tag's code is stripped of blanks, and the few expressions
// that this family is made of are looked for, e.g.
//
//   {{'<｜User｜>' + message['content']}}                   the marker of the user
//   {% set content = content.split('</think>')[-1] %}       past thinking is dropped
//
// Tags about tools are passed over. Whatever else touches what we render is refused.
#include "checkpoint/template_habits.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

using Habits = ChatTemplate::Habits;

struct Tag {
  bool is_expression = false;  // {{ }}, else {% %}
  std::string code;            // blanks outside literals removed, literals unescaped and in '...'
  std::string names;           // the code without its literals
};

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

absl::Status NotUnderstood(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("not a template of the DeepSeek family as we know it: ", std::string(what)));
}

// The code between {% and %}, or {{ and }}.
Tag ReadTag(std::string_view source, bool is_expression) {
  Tag tag;
  tag.is_expression = is_expression;
  char quote = '\0';
  for (size_t i = 0; i < source.size(); ++i) {
    char c = source[i];
    if (quote == '\0') {
      if (IsBlank(c)) continue;
      if (c == '\'' || c == '"') {
        quote = c;
        c = '\'';
      } else {
        tag.names.push_back(c);
      }
    } else if (c == quote) {
      quote = '\0';
      c = '\'';
    } else if (c == '\\' && i + 1 < source.size()) {
      c = source[++i];
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
    }
    tag.code.push_back(c);
  }
  return tag;
}

// End of a tag, literals skipped: position of its closing "%}" or "}}".
size_t FindTagEnd(std::string_view text, size_t begin, std::string_view closing) {
  char quote = '\0';
  for (size_t i = begin; i + 1 < text.size(); ++i) {
    if (quote != '\0') {
      if (text[i] == '\\') {
        ++i;
      } else if (text[i] == quote) {
        quote = '\0';
      }
    } else if (text[i] == '\'' || text[i] == '"') {
      quote = text[i];
    } else if (text.substr(i, 2) == closing) {
      return i;
    }
  }
  return std::string_view::npos;
}

absl::StatusOr<std::vector<Tag>> ReadTags(std::string_view text) {
  std::vector<Tag> tags;
  for (size_t i = 0; i < text.size();) {
    const std::string_view opening = text.substr(i, 2);
    if (opening == "{#") {
      const size_t end = text.find("#}", i + 2);
      if (end == std::string_view::npos) return NotUnderstood("a comment without an end");
      i = end + 2;
    } else if (opening == "{{" || opening == "{%") {
      const bool is_expression = opening == "{{";
      const size_t end = FindTagEnd(text, i + 2, is_expression ? "}}" : "%}");
      if (end == std::string_view::npos) return NotUnderstood("a tag without an end");
      std::string_view source = text.substr(i + 2, end - i - 2);
      if (!source.empty() && source.front() == '-') source.remove_prefix(1);
      if (!source.empty() && source.back() == '-') source.remove_suffix(1);
      tags.push_back(ReadTag(source, is_expression));
      i = end + 2;
    } else if (IsBlank(text[i])) {
      ++i;
    } else {
      return NotUnderstood(absl::StrCat("text outside of tags at byte ", i));
    }
  }
  return tags;
}

// The operands of a chain of "+"; literals keep their quotes.
std::vector<std::string> SplitSum(std::string_view code) {
  std::vector<std::string> terms(1);
  bool in_literal = false;
  for (const char c : code) {
    if (c == '\'') in_literal = !in_literal;
    if (c == '+' && !in_literal) {
      terms.emplace_back();
    } else {
      terms.back().push_back(c);
    }
  }
  return terms;
}

// The text of a literal term.
std::optional<std::string> Literal(const std::string& term) {
  if (term.size() < 2 || term.front() != '\'' || term.back() != '\'') return std::nullopt;
  return term.substr(1, term.size() - 2);
}

bool IsContent(const std::string& term) {
  return term == "content" || term == "message['content']";
}

// What has been found so far.
struct Findings {
  std::optional<ChatTemplate::SystemTexts> system_texts;
  bool has_bos = false;
  bool has_system = false;
  bool drop_past_thinking = false;
  bool trim_past_newlines = false;
  std::optional<std::string> user;        // before the user's text
  std::optional<std::string> after_user;  // "" or the assistant's marker
  std::optional<std::string> before_answer;
  std::optional<std::string> eos;
  std::optional<std::string> generation;  // the generation prompt
};

// The first finding counts; another one that differs is a template we do not understand.
absl::Status Find(std::string_view what, const std::string& text,
                  std::optional<std::string>& finding) {
  if (finding && *finding != text) {
    return NotUnderstood(absl::StrCat(std::string(what), " is both ", *finding, " and ", text));
  }
  finding = text;
  return absl::OkStatus();
}

absl::Status ReadStatement(const Tag& tag, Findings& findings) {
  constexpr std::string_view kSetSystem = "setns.system_prompt=";
  if (tag.code.rfind(kSetSystem, 0) == 0) {
    const std::string value = tag.code.substr(kSetSystem.size());
    if (value == "message['content']") {
      findings.system_texts = ChatTemplate::SystemTexts::kKeepLast;
    } else if (value == "ns.system_prompt+'\n\n'+message['content']") {
      findings.system_texts = ChatTemplate::SystemTexts::kJoinAll;
    } else if (value != "ns.system_prompt+message['content']") {  // The first of those to join.
      return NotUnderstood(absl::StrCat("system texts are joined as ", value));
    }
    return absl::OkStatus();
  }
  if (tag.code.find("</think>") == std::string::npos || tag.code == "if'</think>'incontent") {
    return absl::OkStatus();
  }
  for (const std::string_view last : {"setcontent=content.split('</think>')[-1]",
                                      "setcontent=(content.split('</think>')|last)"}) {
    if (tag.code == last || tag.code == absl::StrCat(std::string(last), ".lstrip('\n')")) {
      findings.drop_past_thinking = true;
      findings.trim_past_newlines = tag.code != last;
      return absl::OkStatus();
    }
  }
  return NotUnderstood(absl::StrCat("past thinking is handled by ", tag.code));
}

absl::Status ReadExpression(const Tag& tag, const std::string& role, bool is_generation,
                            Findings& findings) {
  const std::vector<std::string> terms = SplitSum(tag.code);
  findings.has_bos = findings.has_bos || terms[0] == "bos_token";
  findings.has_system = findings.has_system || terms.back() == "ns.system_prompt";
  if (tag.code.find("tool") != std::string::npos) return absl::OkStatus();
  if (is_generation) {
    const std::optional<std::string> text = Literal(terms[0]);
    if (terms.size() != 1 || !text) {
      return NotUnderstood(absl::StrCat("the generation prompt is ", tag.code));
    }
    return Find("the generation prompt", *text, findings.generation);
  }
  const auto content = std::find_if(terms.begin(), terms.end(), IsContent);
  if (content == terms.end() || role.empty()) return absl::OkStatus();
  // [literal +] content [+ literal]
  std::string before, after;
  const size_t index = content - terms.begin();
  if (index > 1 || terms.size() > index + 2) {
    return NotUnderstood(absl::StrCat("a message is rendered as ", tag.code));
  }
  if (index == 1) before = Literal(terms[0]).value_or("");
  if (index + 1 < terms.size()) after = Literal(terms[index + 1]).value_or("");
  if (role == "user") {
    RETURN_IF_ERROR(Find("the user's marker", before, findings.user));
    return Find("what follows a user's text", after, findings.after_user);
  }
  if (role == "assistant") {
    RETURN_IF_ERROR(Find("the assistant's marker", before, findings.before_answer));
    return Find("the end of an answer", after, findings.eos);
  }
  return absl::OkStatus();
}

// Puts the findings together.
absl::StatusOr<Habits> Conclude(const Findings& findings) {
  if (!findings.has_bos) return NotUnderstood("it does not write bos_token");
  if (!findings.has_system || !findings.system_texts) {
    return NotUnderstood("it does not write system texts");
  }
  if (findings.user.value_or("").empty()) return NotUnderstood("there is no marker of the user");
  if (findings.eos.value_or("").empty()) return NotUnderstood("answers have no end");
  Habits habits;
  habits.system_texts = *findings.system_texts;
  habits.drop_past_thinking = findings.drop_past_thinking;
  habits.trim_past_newlines = findings.trim_past_newlines;
  habits.user = *findings.user;
  habits.eos = *findings.eos;
  habits.user_opens_answer = !findings.after_user->empty();
  habits.assistant = habits.user_opens_answer ? *findings.after_user : *findings.before_answer;
  if (habits.user_opens_answer ? !findings.before_answer->empty() : habits.assistant.empty()) {
    return NotUnderstood("the assistant's marker stands twice, or nowhere");
  }
  const std::string generation = findings.generation.value_or("");
  habits.open_thinking = generation == absl::StrCat(habits.assistant, "<think>\n");
  if (generation != habits.assistant && (!habits.open_thinking || habits.user_opens_answer)) {
    return NotUnderstood(absl::StrCat("the generation prompt is '", generation, "'"));
  }
  return habits;
}

}  // namespace

absl::StatusOr<Habits> ReadTemplateHabits(const std::string& jinja) {
  ASSIGN_OR_RETURN(const std::vector<Tag> tags, ReadTags(jinja));
  Findings findings;
  std::string role;            // of the last "if message['role'] == ..."
  bool is_generation = false;  // inside "if add_generation_prompt"
  for (const Tag& tag : tags) {
    if (tag.names.find("thinking") != std::string::npos) {
      return NotUnderstood(absl::StrCat("it has a switch for thinking: ", tag.code));
    }
    if (tag.is_expression) {
      RETURN_IF_ERROR(ReadExpression(tag, role, is_generation, findings));
      continue;
    }
    RETURN_IF_ERROR(ReadStatement(tag, findings));
    constexpr std::string_view kRoleTest = "message['role']=='";
    const size_t test = tag.code.find(kRoleTest);
    if (test != std::string::npos) {
      const size_t begin = test + kRoleTest.size();
      role = tag.code.substr(begin, tag.code.find('\'', begin) - begin);
    }
    if (tag.code == "endfor") role.clear();
    if (tag.code.rfind("ifadd_generation_prompt", 0) == 0) is_generation = true;
  }
  return Conclude(findings);
}

}  // namespace orrery
