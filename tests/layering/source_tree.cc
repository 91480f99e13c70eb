#include "tests/layering/source_tree.h"

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

bool IsOfInterest(const fs::path& path) {
  const std::string extension = path.extension().string();
  return path.filename() == "BUILD" || extension == ".h" || extension == ".cc" ||
         extension == ".cu" || extension == ".cuh" || extension == ".proto" || extension == ".md";
}

std::string ReadFile(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Splits BUILD text into what the parser needs: strings, identifiers and punctuation; comments are
// dropped.
struct BuildToken {
  enum class Kind { kString, kIdentifier, kPunctuation } kind;
  std::string text;
  int line = 0;
};

std::vector<BuildToken> Tokenize(std::string_view text) {
  std::vector<BuildToken> tokens;
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '\n') {
      ++line;
      ++i;
    } else if (c == '#') {
      while (i < text.size() && text[i] != '\n') ++i;
    } else if (c == '"' || c == '\'') {
      const std::string_view quote =
          text.substr(i, 3) == std::string(3, c) ? text.substr(i, 3) : text.substr(i, 1);
      const size_t begin = i + quote.size();
      const size_t end = std::min(text.find(quote, begin), text.size());
      tokens.push_back(
          {BuildToken::Kind::kString, std::string(text.substr(begin, end - begin)), line});
      for (size_t j = begin; j < end; ++j) line += text[j] == '\n';
      i = end + quote.size();
    } else if (std::isalpha(static_cast<unsigned char>(c)) || c == '_') {
      const size_t begin = i;
      while (i < text.size() &&
             (std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_')) {
        ++i;
      }
      tokens.push_back(
          {BuildToken::Kind::kIdentifier, std::string(text.substr(begin, i - begin)), line});
    } else {
      if (!std::isspace(static_cast<unsigned char>(c))) {
        tokens.push_back({BuildToken::Kind::kPunctuation, std::string(1, c), line});
      }
      ++i;
    }
  }
  return tokens;
}

}  // namespace

SourceTree ReadSourceTree(const fs::path& root) {
  SourceTree tree;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    const std::string name = it->path().filename().string();
    if (absl::StartsWith(name, ".") || (it.depth() == 0 && absl::StartsWith(name, "bazel-"))) {
      if (it->is_directory()) it.disable_recursion_pending();
      continue;
    }
    if (it->is_regular_file() && IsOfInterest(it->path())) {
      tree[fs::relative(it->path(), root).generic_string()] = ReadFile(it->path());
    }
  }
  return tree;
}

fs::path WorkspaceRoot() {
  // Bazel links runfiles to the sources; the link of a file at the root leads to the root.
  const char* srcdir = std::getenv("TEST_SRCDIR");
  const char* workspace = std::getenv("TEST_WORKSPACE");
  if (srcdir == nullptr || workspace == nullptr) return fs::current_path();
  return fs::canonical(fs::path(srcdir) / workspace / "WORKSPACE").parent_path();
}

std::vector<Include> Includes(std::string_view text) {
  std::vector<Include> includes;
  int line = 0;
  for (absl::string_view raw : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++line;
    absl::string_view rest = absl::StripLeadingAsciiWhitespace(raw);
    if (!absl::ConsumePrefix(&rest, "#")) continue;
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (!absl::ConsumePrefix(&rest, "include")) continue;
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (rest.empty() || (rest[0] != '"' && rest[0] != '<')) continue;
    const bool quoted = rest[0] == '"';
    const size_t end = rest.find(quoted ? '"' : '>', 1);
    if (end == absl::string_view::npos) continue;
    includes.push_back({line, quoted, std::string(rest.substr(1, end - 1))});
  }
  return includes;
}

std::string BuildRule::name() const {
  const auto it = strings.find("name");
  return it == strings.end() || it->second.empty() ? "" : it->second[0];
}

bool BuildRule::is_test() const {
  if (absl::EndsWith(kind, "_test") || kind == "test_suite") return true;
  // testonly = True holds no string; the parser notes the argument all the same.
  return strings.count("testonly") > 0;
}

std::vector<std::string> BuildRule::Files() const {
  std::vector<std::string> files;
  const auto each = strings.find("");  // what a comprehension runs over
  for (const char* argument : {"srcs", "hdrs"}) {
    const auto it = strings.find(argument);
    if (it == strings.end()) continue;
    for (const std::string& file : it->second) {
      if (!absl::StartsWith(file, ".") || each == strings.end()) {
        files.push_back(file);
        continue;
      }
      for (const std::string& name : each->second) files.push_back(name + file);
    }
  }
  return files;
}

std::vector<std::string> BuildRule::Dependencies() const {
  std::vector<std::string> labels;
  if (kind == "load" || kind == "package_group" || kind == "exports_files") return labels;
  for (const auto& [argument, values] : strings) {
    if (argument == "visibility" || argument == "default_visibility" || argument == "data")
      continue;
    for (const std::string& value : values) {
      if (absl::StartsWith(value, "//") || absl::StartsWith(value, "@")) labels.push_back(value);
    }
  }
  return labels;
}

std::vector<BuildRule> ParseBuild(std::string_view text) {
  using Kind = BuildToken::Kind;
  const std::vector<BuildToken> tokens = Tokenize(text);
  const auto is = [&](size_t i, std::string_view punctuation) {
    return i < tokens.size() && tokens[i].kind == Kind::kPunctuation &&
           tokens[i].text == punctuation;
  };
  std::vector<BuildRule> rules;
  std::string argument;
  int depth = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const BuildToken& token = tokens[i];
    if (token.kind == Kind::kIdentifier && depth == 0) {
      // A call, or an assignment whose labels end up in some rule: both are read.
      if (is(i + 1, "(") || is(i + 1, "=")) rules.push_back({token.line, token.text, {}});
      argument = "";
    } else if (token.kind == Kind::kIdentifier && depth == 1 && is(i + 1, "=")) {
      argument = token.text;
      if (!rules.empty()) rules.back().strings[argument];
    } else if (token.kind == Kind::kString) {
      if (!rules.empty() && !is(i + 1, ":")) rules.back().strings[argument].push_back(token.text);
    } else if (is(i, "(") || is(i, "[") || is(i, "{")) {
      // The brackets of a list at the top, [cc_test(...) for name in [...]], count for nothing.
      if (depth > 0 || !is(i, "[")) ++depth;
    } else if (is(i, ")") || is(i, "]") || is(i, "}")) {
      if (depth > 0) --depth;
    }
  }
  return rules;
}

std::string LabelPackage(std::string_view label) {
  label.remove_prefix(std::min<size_t>(2, label.size()));
  return std::string(label.substr(0, label.find(':')));
}

std::string FolderOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? "" : std::string(path.substr(0, slash));
}

}  // namespace orrery
