// JSON of strangers: parsed without exceptions, limited in depth, and read field by field with
// errors that name file, field and value.
//
//   ASSIGN_OR_RETURN(Json root, ParseJson(text, "/models/r1/config.json"));
//   JsonReader fields(root, "/models/r1/config.json");
//   config.hidden_size = fields.Int("hidden_size", {1, 1 << 20});
//   config.rms_norm_eps = fields.Number("rms_norm_eps", {0.0, 1.0});
//   RETURN_IF_ERROR(fields.status());
//
// A reader collects its problems instead of stopping at the first: a getter that found one returns
// a value inside its range (or an empty one), so the code after it stays simple, and nothing of it
// may be used before status() was asked.
#ifndef ORRERY_CHECKPOINT_JSON_H_
#define ORRERY_CHECKPOINT_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace orrery {

using Json = nlohmann::json;

// Deeper nesting is refused: no file of a model comes near it.
inline constexpr int kMaxJsonDepth = 32;

// INVALID_ARGUMENT for bad syntax, text that is not UTF-8, nesting beyond kMaxJsonDepth, and a key
// that stands twice in one object (which of the two would count?). `origin` stands in messages.
absl::StatusOr<Json> ParseJson(std::string_view text, const std::string& origin);

// A value as it stands in the file, shortened for a message.
std::string JsonText(const Json& value);

class JsonReader {
 public:
  struct IntRange {
    int64_t min;
    int64_t max;
  };
  // Both ends included; infinities and NaN never are.
  struct NumberRange {
    double min;
    double max;
  };

  // `object` must outlive the reader; if it is not an object, that is the first problem. `where`
  // begins every message: the file, and the path inside it for a nested object.
  JsonReader(const Json& object, std::string where);

  // Present, and not null.
  bool Has(std::string_view name) const;
  // The value, or null if absent.
  const Json& Value(std::string_view name) const;
  const std::string& where() const { return where_; }

  // Required fields.
  int64_t Int(std::string_view name, IntRange range);
  double Number(std::string_view name, NumberRange range);
  bool Bool(std::string_view name);
  std::string String(std::string_view name);
  // Optional fields: absent and null give the fallback.
  int64_t IntOr(std::string_view name, int64_t fallback, IntRange range);
  double NumberOr(std::string_view name, double fallback, NumberRange range);
  bool BoolOr(std::string_view name, bool fallback);
  std::string StringOr(std::string_view name, std::string_view fallback);

  // Records "<where>: <name> is <value>: <why>".
  void Refuse(std::string_view name, std::string_view why);
  // Records every field that is not among `known`, unless its value says "off": null, false, 0, "",
  // [] or {}.
  void RefuseUnknown(absl::Span<const std::string_view> known);
  // Adds the problems of a nested object's reader.
  void Include(const JsonReader& nested);

  // OK, or INVALID_ARGUMENT with all problems.
  absl::Status status() const;

 private:
  void RefuseType(std::string_view name, std::string_view wanted);

  const Json* object_;
  std::string where_;
  std::vector<std::string> problems_;
};

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_JSON_H_
