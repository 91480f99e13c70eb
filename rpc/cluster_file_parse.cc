// The text half: protobuf's own parser, restarted behind each mistake.
#include <algorithm>
#include <memory>

#include "google/protobuf/io/tokenizer.h"
#include "rpc/cluster_file_problems.h"

namespace orrery {
namespace {

// Each restart parses the file again, so a file full of garbage must end somewhere.
constexpr int kMaxRestarts = 50;

class Collector : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    errors.push_back({std::max(line, 0), std::max<int>(column, 0), message});
  }
  // Unknown fields are warnings when they are allowed, which lets the parser go on behind them. Any
  // other warning is advice; a good file has none.
  void AddWarning(int line, google::protobuf::io::ColumnNumber column,
                  const std::string& message) override {
    warnings.push_back({std::max(line, 0), std::max<int>(column, 0), message});
  }
  std::vector<FileProblem> errors;
  std::vector<FileProblem> warnings;
};

size_t OffsetOf(const std::string& text, const FileProblem& place) {
  size_t offset = 0;
  for (int line = 0; line < place.line; ++line) {
    const size_t end = text.find('\n', offset);
    if (end == std::string::npos) return text.size();
    offset = end + 1;
  }
  return std::min(text.size(), offset + place.column);
}

void SetPlace(const std::string& text, size_t offset, FileProblem& problem) {
  const std::string before = text.substr(0, offset);
  problem.line = static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  const size_t line_begin = before.rfind('\n');
  problem.column =
      static_cast<int>(line_begin == std::string::npos ? offset : offset - line_begin - 1);
}

// An enum value that does not exist: the parser reports it one token late. Finds its place and puts
// 0, which every enum has, over it.
bool RecoverFromEnumValue(std::string& text, FileProblem& problem) {
  const std::string start = "Unknown enumeration value of \"";
  if (problem.message.compare(0, start.size(), start) != 0) return false;
  const size_t end = problem.message.find('"', start.size());
  if (end == std::string::npos || end == start.size()) return false;
  const std::string value = problem.message.substr(start.size(), end - start.size());
  const size_t offset = text.rfind(value, OffsetOf(text, problem));
  if (offset == std::string::npos) return false;
  SetPlace(text, offset, problem);
  text.replace(offset, value.size(), "0" + std::string(value.size() - 1, ' '));
  return true;
}

// An unknown field is reported behind its name; people look for the name.
void MoveToFieldName(const std::string& text, FileProblem& problem) {
  const std::string start = "has no field named \"";
  const size_t begin = problem.message.find(start);
  if (begin == std::string::npos) return;
  const size_t end = problem.message.find('"', begin + start.size());
  if (end == std::string::npos) return;
  const std::string name = problem.message.substr(begin + start.size(), end - begin - start.size());
  const size_t offset = text.rfind(name, OffsetOf(text, problem));
  if (offset != std::string::npos) SetPlace(text, offset, problem);
}

// Anything else: leaves the line out, if its braces are balanced, so that the blocks around it stay
// whole.
bool RecoverFromLine(std::string& text, const FileProblem& problem) {
  const size_t begin = OffsetOf(text, {problem.line, 0, ""});
  const size_t end = std::min(text.find('\n', begin), text.size());
  int depth = 0;
  bool blank = true;
  for (size_t i = begin; i < end; ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}') --depth;
    if (depth < 0) return false;
    if (text[i] != ' ') blank = false;
  }
  if (depth != 0 || blank) return false;
  std::fill(text.begin() + begin, text.begin() + end, ' ');
  return true;
}

}  // namespace

void ParseClusterText(const std::string& text, ParsedClusterText& parsed,
                      std::vector<FileProblem>& problems) {
  std::string rest = text;
  for (int restart = 0;; ++restart) {
    Collector collector;
    google::protobuf::TextFormat::Parser parser;
    auto places = std::make_unique<google::protobuf::TextFormat::ParseInfoTree>();
    parser.RecordErrorsTo(&collector);
    parser.WriteLocationsTo(places.get());
    parser.AllowUnknownField(true);
    internal::ClusterFile cluster;
    parser.ParseFromString(rest, &cluster);
    const bool stop = collector.errors.empty() || restart == kMaxRestarts;
    if (!stop) {
      FileProblem problem = collector.errors.front();
      const bool is_enum = RecoverFromEnumValue(rest, problem);
      const bool recovered = is_enum || RecoverFromLine(rest, problem);
      if (!is_enum) parsed.incomplete = true;
      problems.push_back(std::move(problem));
      if (recovered) continue;
    } else if (!collector.errors.empty()) {
      parsed.incomplete = true;
      problems.push_back(collector.errors.front());
    }
    for (FileProblem& warning : collector.warnings) {
      MoveToFieldName(rest, warning);
      problems.push_back(std::move(warning));
    }
    parsed.cluster = std::move(cluster);
    parsed.places = std::move(places);
    return;
  }
}

}  // namespace orrery
