#include "checkpoint/json.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace orrery {
namespace {

constexpr size_t kMaxShownBytes = 80;
constexpr size_t kMaxProblems = 20;

const Json& NullJson() {
  static const Json* const null = new Json(nullptr);
  return *null;
}

// Builds the document while checking depth and keys; returning false ends the parse.
class DocumentBuilder final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Add(Json(nullptr)); }
  bool boolean(bool value) override { return Add(Json(value)); }
  bool number_integer(number_integer_t value) override { return Add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Add(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return Add(Json(value)); }
  bool string(string_t& value) override { return Add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }  // Not in JSON text.
  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    if (open_.back()->contains(name)) {
      problem_ = absl::StrCat("the key \"", name, "\" stands twice in one object");
      return false;
    }
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    problem_ = absl::StrCat("not JSON at byte ", position, ": ", error.what());
    return false;
  }

  const std::string& problem() const { return problem_; }
  Json TakeRoot() { return std::move(root_); }

 private:
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }
  bool Open(Json container) {
    if (open_.size() >= kMaxJsonDepth) {
      problem_ = absl::StrCat("nested deeper than ", kMaxJsonDepth, " levels");
      return false;
    }
    open_.push_back(Place(std::move(container)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // Stable: a container grows only while it is the innermost open one.
  std::string key_;
  std::string problem_;
};

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, const std::string& origin) {
  DocumentBuilder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(absl::StrCat(origin, ": ", builder.problem()));
  }
  return builder.TakeRoot();
}

std::string JsonText(const Json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  if (text.size() <= kMaxShownBytes) return text;
  size_t end = kMaxShownBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) --end;
  return text.substr(0, end) + "...";
}

JsonReader::JsonReader(const Json& object, std::string where)
    : object_(&object), where_(std::move(where)) {
  if (!object.is_object()) {
    problems_.push_back(absl::StrCat(where_, ": expected an object, found ", JsonText(object)));
    object_ = &NullJson();
  }
}

const Json& JsonReader::Value(std::string_view name) const {
  if (!object_->is_object()) return NullJson();
  const auto found = object_->find(std::string(name));
  return found == object_->end() ? NullJson() : *found;
}

bool JsonReader::Has(std::string_view name) const { return !Value(name).is_null(); }

int64_t JsonReader::Int(std::string_view name, IntRange range) {
  const Json& value = Value(name);
  if (!value.is_number_integer()) {
    RefuseType(name, "an integer");
    return range.min;
  }
  // An unsigned value beyond int64 is beyond every range of ours.
  const bool too_large =
      value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(range.max);
  const int64_t number = too_large ? range.max : value.get<int64_t>();
  if (too_large || number < range.min || number > range.max) {
    Refuse(name, absl::StrCat("must be ", range.min, " to ", range.max));
    return range.min;
  }
  return number;
}

double JsonReader::Number(std::string_view name, NumberRange range) {
  const Json& value = Value(name);
  if (!value.is_number()) {
    RefuseType(name, "a number");
    return range.min;
  }
  const double number = value.get<double>();
  if (!(number >= range.min && number <= range.max)) {
    Refuse(name, absl::StrCat("must be ", range.min, " to ", range.max));
    return range.min;
  }
  return number;
}

bool JsonReader::Bool(std::string_view name) {
  const Json& value = Value(name);
  if (value.is_boolean()) return value.get<bool>();
  RefuseType(name, "true or false");
  return false;
}

std::string JsonReader::String(std::string_view name) {
  const Json& value = Value(name);
  if (value.is_string()) return value.get<std::string>();
  RefuseType(name, "a string");
  return "";
}

int64_t JsonReader::IntOr(std::string_view name, int64_t fallback, IntRange range) {
  return Has(name) ? Int(name, range) : fallback;
}

double JsonReader::NumberOr(std::string_view name, double fallback, NumberRange range) {
  return Has(name) ? Number(name, range) : fallback;
}

bool JsonReader::BoolOr(std::string_view name, bool fallback) {
  return Has(name) ? Bool(name) : fallback;
}

std::string JsonReader::StringOr(std::string_view name, std::string_view fallback) {
  return Has(name) ? String(name) : std::string(fallback);
}

void JsonReader::Refuse(std::string_view name, std::string_view why) {
  problems_.push_back(absl::StrCat(where_, ": ", std::string(name), " is ", JsonText(Value(name)),
                                   ": ", std::string(why)));
}

void JsonReader::RefuseType(std::string_view name, std::string_view wanted) {
  if (!object_->is_object()) return;  // One message about that is enough.
  if (object_->contains(std::string(name))) {
    Refuse(name, absl::StrCat("must be ", std::string(wanted)));
  } else {
    problems_.push_back(absl::StrCat(where_, ": ", std::string(name), " is missing"));
  }
}

void JsonReader::RefuseUnknown(absl::Span<const std::string_view> known) {
  if (!object_->is_object()) return;
  for (const auto& [name, value] : object_->items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const bool off = value.is_null() || value == false || (value.is_number() && value == 0) ||
                     value == "" || (value.is_structured() && value.empty());
    if (!off) Refuse(name, "a field we do not know, and so cannot honour");
  }
}

void JsonReader::Include(const JsonReader& nested) {
  problems_.insert(problems_.end(), nested.problems_.begin(), nested.problems_.end());
}

absl::Status JsonReader::status() const {
  if (problems_.empty()) return absl::OkStatus();
  if (problems_.size() <= kMaxProblems) {
    return absl::InvalidArgumentError(absl::StrJoin(problems_, "\n"));
  }
  const std::vector<std::string> shown(problems_.begin(), problems_.begin() + kMaxProblems);
  return absl::InvalidArgumentError(absl::StrCat(absl::StrJoin(shown, "\n"), "\n... and ",
                                                 problems_.size() - kMaxProblems, " more"));
}

}  // namespace orrery
