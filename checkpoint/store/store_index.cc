#include "checkpoint/store/store_index.h"

#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "checkpoint/fingerprint.h"
#include "checkpoint/json.h"

namespace orrery {
namespace {

constexpr int64_t kMaxOffset = int64_t{1} << 50;
constexpr int64_t kMaxRecords = 10'000'000;

std::string HashOf(std::string_view text) {
  return ContentHash(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
}

std::map<std::string, std::string> ReadStrings(JsonReader& fields, std::string_view name) {
  std::map<std::string, std::string> strings;
  const Json& value = fields.Value(name);
  if (!value.is_object()) {
    fields.Refuse(name, "must be an object");
    return strings;
  }
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      fields.Refuse(name, "must hold strings only");
      break;
    }
    strings[key] = text.get<std::string>();
  }
  return strings;
}

// Reads line after line; knows what came before.
class IndexReader {
 public:
  explicit IndexReader(std::string path) : path_(std::move(path)) {}

  // Without its line end.
  absl::Status Add(std::string_view line) {
    ++num_lines_;
    const std::string where = absl::StrCat(path_, ":", num_lines_);
    absl::StatusOr<Json> json = ParseJson(line, where);
    if (!json.ok()) return absl::DataLossError(json.status().message());
    JsonReader fields(*json, where);
    if (index_.is_whole) {
      return absl::DataLossError(absl::StrCat(where, ": nothing may follow the end"));
    }
    RETURN_IF_ERROR(num_lines_ == 1     ? ReadIdentity(fields)
                    : fields.Has("end") ? ReadEnd(fields)
                                        : ReadRecord(fields));
    before_.append(line);
    before_ += '\n';
    return absl::OkStatus();
  }

  const StoreIndex& index() const { return index_; }
  StoreIndex Take() { return std::move(index_); }

 private:
  absl::Status Damaged(const JsonReader& fields) const {
    const absl::Status status = fields.status();
    return status.ok() ? status : absl::DataLossError(status.message());
  }
  absl::Status ReadIdentity(JsonReader& fields);
  absl::Status ReadRecord(JsonReader& fields);
  absl::Status ReadParts(JsonReader& fields, StoreRecord& record);
  absl::Status ReadEnd(JsonReader& fields);

  const std::string path_;
  StoreIndex index_;
  std::string before_;
  int64_t num_lines_ = 0;
  std::set<std::string> keys_;
};

absl::Status IndexReader::ReadIdentity(JsonReader& fields) {
  const int64_t version = fields.Int("orrery_store", {0, std::numeric_limits<int32_t>::max()});
  RETURN_IF_ERROR(Damaged(fields));
  if (version != kStoreVersion) {
    return absl::InvalidArgumentError(absl::StrCat(path_, " is of version ", version,
                                                   " of packed stores; this program reads version ",
                                                   kStoreVersion));
  }
  index_.identity.numerics_id = fields.String("numerics_id");
  index_.identity.config_hash = fields.String("config_hash");
  index_.identity.sources = ReadStrings(fields, "sources");
  return Damaged(fields);
}

absl::Status IndexReader::ReadRecord(JsonReader& fields) {
  StoreRecord record;
  record.key = fields.String("key");
  record.offset = fields.Int("offset", {0, kMaxOffset});
  record.num_bytes = fields.Int("bytes", {kRecordAlignment, kMaxOffset});
  record.hash = fields.String("hash");
  RETURN_IF_ERROR(ReadParts(fields, record));
  const int64_t begin =
      index_.records.empty() ? 0 : index_.records.back().offset + index_.records.back().num_bytes;
  if (record.offset != begin) fields.Refuse("offset", absl::StrCat("must be ", begin));
  if (record.num_bytes % kRecordAlignment != 0) {
    fields.Refuse("bytes", absl::StrCat("must be a multiple of ", kRecordAlignment));
  }
  if (!keys_.insert(record.key).second) fields.Refuse("key", "stands twice");
  if (index_.records.size() >= kMaxRecords) fields.Refuse("key", "too many records");
  RETURN_IF_ERROR(Damaged(fields));
  index_.records.push_back(std::move(record));
  return absl::OkStatus();
}

absl::Status IndexReader::ReadParts(JsonReader& fields, StoreRecord& record) {
  const Json& parts = fields.Value("parts");
  if (!parts.is_array() || parts.empty()) {
    fields.Refuse("parts", "must be a list of parts");
    return Damaged(fields);
  }
  std::set<std::string> names;
  int64_t end = 0;
  for (const Json& part : parts) {
    if (!part.is_array() || part.size() != 3 || !part[0].is_string() ||
        !part[1].is_number_unsigned() || !part[2].is_number_unsigned() ||
        part[1].get<uint64_t>() > kMaxOffset || part[2].get<uint64_t>() > kMaxOffset) {
      fields.Refuse("parts", "must be [name, offset, bytes] each");
      break;
    }
    StorePart read = {.name = part[0].get<std::string>(),
                      .offset = part[1].get<int64_t>(),
                      .num_bytes = part[2].get<int64_t>()};
    if (read.offset < end || read.offset % kPartAlignment != 0 ||
        read.offset + read.num_bytes > record.num_bytes || !names.insert(read.name).second) {
      fields.Refuse("parts", absl::StrCat("part ", read.name, " overlaps, or stands twice"));
      break;
    }
    end = read.offset + read.num_bytes;
    record.parts.push_back(std::move(read));
  }
  return Damaged(fields);
}

absl::Status IndexReader::ReadEnd(JsonReader& fields) {
  const int64_t num_records = fields.Int("end", {0, kMaxRecords});
  if (num_records != static_cast<int64_t>(index_.records.size())) {
    fields.Refuse("end", absl::StrCat("there are ", index_.records.size(), " records"));
  }
  index_.file_hashes = ReadStrings(fields, "files");
  const std::string hash = fields.String("hash");
  if (hash != HashOf(before_)) fields.Refuse("hash", "the lines before have another");
  RETURN_IF_ERROR(Damaged(fields));
  index_.is_whole = true;
  return absl::OkStatus();
}

}  // namespace

std::string IdentityLine(const StoreIdentity& identity) {
  return Json{{"orrery_store", kStoreVersion},
              {"numerics_id", identity.numerics_id},
              {"config_hash", identity.config_hash},
              {"sources", identity.sources}}
             .dump() +
         "\n";
}

std::string RecordLine(const StoreRecord& record) {
  Json parts = Json::array();
  for (const StorePart& part : record.parts) {
    parts.push_back(Json::array({part.name, part.offset, part.num_bytes}));
  }
  return Json{{"key", record.key},
              {"offset", record.offset},
              {"bytes", record.num_bytes},
              {"hash", record.hash},
              {"parts", std::move(parts)}}
             .dump() +
         "\n";
}

std::string EndLine(std::string_view lines, int64_t num_records,
                    const std::map<std::string, std::string>& file_hashes) {
  return Json{{"end", num_records}, {"files", file_hashes}, {"hash", HashOf(lines)}}.dump() + "\n";
}

absl::StatusOr<StoreIndex> ParseStoreIndex(std::string_view text, const std::string& path) {
  IndexReader reader(path);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) break;  // cut off: not whole
    RETURN_IF_ERROR(reader.Add(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  if (!reader.index().is_whole || text.back() != '\n') {
    return absl::DataLossError(absl::StrCat(path, " has no end: it was cut off"));
  }
  return reader.Take();
}

absl::StatusOr<StoreIndex> ParseStoreJournal(std::string_view text, const std::string& path) {
  IndexReader reader(path);
  for (size_t begin = 0, num_lines = 0; begin < text.size(); ++num_lines) {
    const size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) break;
    const absl::Status status = reader.Add(text.substr(begin, end - begin));
    if (!status.ok() && num_lines == 0) return status;
    if (!status.ok()) break;
    begin = end + 1;
  }
  StoreIndex index = reader.Take();
  index.is_whole = false;
  index.file_hashes.clear();
  if (index.identity.numerics_id.empty()) {
    return absl::DataLossError(absl::StrCat(path, " has no beginning"));
  }
  return index;
}

}  // namespace orrery
