#include "checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "checkpoint/json.h"

namespace orrery {
namespace {

constexpr uint64_t kLengthBytes = 8;
// A shard of DeepSeek-V3 has a header of 100 kB; the reference implementation stops at the same
// number.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxDimensions = 16;

struct DTypeInfo {
  std::string_view name;
  int num_bits;
  std::optional<DType> dtype;  // nullopt: we can skip it, but not read it
};
constexpr DTypeInfo kDTypes[] = {
    {"F32", 32, DType::kF32},        {"BF16", 16, DType::kBf16},   {"F16", 16, DType::kF16},
    {"F8_E4M3", 8, DType::kFp8E4m3}, {"BOOL", 8, std::nullopt},    {"U8", 8, std::nullopt},
    {"I8", 8, std::nullopt},         {"F8_E5M2", 8, std::nullopt}, {"F8_E8M0", 8, std::nullopt},
    {"I16", 16, std::nullopt},       {"U16", 16, std::nullopt},    {"I32", 32, std::nullopt},
    {"U32", 32, std::nullopt},       {"I64", 64, std::nullopt},    {"U64", 64, std::nullopt},
    {"F64", 64, std::nullopt},       {"C64", 64, std::nullopt},    {"F4", 4, std::nullopt},
};

const DTypeInfo* FindDType(std::string_view name) {
  for (const DTypeInfo& info : kDTypes) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

struct Entry {
  std::string name;
  std::string dtype_name;
  std::optional<DType> dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

std::optional<uint64_t> AsUnsigned(const Json& value) {
  if (!value.is_number_integer() || value < 0) return std::nullopt;
  return value.get<uint64_t>();
}

// Bits of a tensor; nullopt beyond 2^63, which no file holds.
std::optional<uint64_t> NumBits(const std::vector<int64_t>& shape, int bits_each) {
  uint64_t num_bits = bits_each;
  for (const int64_t size : shape) {
    if (size == 0) return 0;
  }
  for (const int64_t size : shape) {
    if (num_bits > (uint64_t{1} << 63) / size) return std::nullopt;
    num_bits *= size;
  }
  return num_bits;
}

// One entry of the header; the message lacks file and tensor.
absl::Status ParseEntry(const Json& value, uint64_t num_data_bytes, Entry& entry) {
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
      !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
      !value["data_offsets"].is_array() || value["data_offsets"].size() != 2) {
    return absl::DataLossError(
        absl::StrCat("expected dtype, shape and data_offsets, found ", JsonText(value)));
  }
  entry.dtype_name = value["dtype"].get<std::string>();
  if (value["shape"].size() > kMaxDimensions) {
    return absl::DataLossError(
        absl::StrCat("has ", value["shape"].size(), " dimensions; the limit is ", kMaxDimensions));
  }
  for (const Json& size : value["shape"]) {
    const std::optional<uint64_t> number = AsUnsigned(size);
    if (!number || *number > uint64_t{INT64_MAX}) {
      return absl::DataLossError(
          absl::StrCat("shape ", JsonText(value["shape"]), " is not a list of sizes"));
    }
    entry.shape.push_back(static_cast<int64_t>(*number));
  }
  const std::optional<uint64_t> begin = AsUnsigned(value["data_offsets"][0]);
  const std::optional<uint64_t> end = AsUnsigned(value["data_offsets"][1]);
  if (!begin || !end || *begin > *end || *end > num_data_bytes) {
    return absl::DataLossError(absl::StrCat("data_offsets ", JsonText(value["data_offsets"]),
                                            " do not lie within the ", num_data_bytes,
                                            " data bytes of the file"));
  }
  entry.begin = *begin;
  entry.end = *end;
  const DTypeInfo* info = FindDType(entry.dtype_name);
  if (info == nullptr) return absl::OkStatus();  // A newer one: nobody may need it.
  entry.dtype = info->dtype;
  const std::optional<uint64_t> num_bits = NumBits(entry.shape, info->num_bits);
  if (!num_bits || *num_bits % 8 != 0 || *num_bits / 8 != entry.end - entry.begin) {
    return absl::DataLossError(absl::StrCat("shape ", JsonText(value["shape"]), " of ",
                                            entry.dtype_name, " does not fill the ",
                                            entry.end - entry.begin, " bytes of its data_offsets"));
  }
  return absl::OkStatus();
}

// Every data byte belongs to exactly one tensor.
absl::Status CheckLayout(std::vector<Entry>& entries, uint64_t num_data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t covered = 0;
  const Entry* previous = nullptr;
  for (const Entry& entry : entries) {
    if (entry.begin < covered) {
      return absl::DataLossError(absl::StrCat("tensor ", entry.name, " at byte ", entry.begin,
                                              " overlaps ", previous->name, ", which ends at ",
                                              covered));
    }
    if (entry.begin > covered) {
      return absl::DataLossError(absl::StrCat("bytes ", covered, " to ", entry.begin,
                                              " before tensor ", entry.name,
                                              " belong to no tensor"));
    }
    covered = entry.end;
    previous = &entry;
  }
  if (covered != num_data_bytes) {
    return absl::DataLossError(absl::StrCat("the last ", num_data_bytes - covered, " of ",
                                            num_data_bytes, " data bytes belong to no tensor"));
  }
  return absl::OkStatus();
}

absl::Status WithContext(const absl::Status& status, const std::string& context) {
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile());
  file->path_ = path;
  RETURN_IF_ERROR(file->Map());
  const absl::Status parsed = file->ParseHeader();
  if (!parsed.ok()) return WithContext(parsed, path);
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) munmap(const_cast<std::byte*>(map_), num_bytes_);
}

void SafetensorsFile::Forget(absl::Span<const std::byte> bytes) {
  const uintptr_t page = sysconf(_SC_PAGESIZE);
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size());
  // A read-only private mapping: pages that it shares with its neighbours come back unchanged.
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

absl::Status SafetensorsFile::Map() {
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path_));
  const auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  struct stat info;
  if (fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot stat ", path_));
  if (!S_ISREG(info.st_mode))
    return absl::DataLossError(absl::StrCat(path_, ": not a regular file"));
  if (static_cast<uint64_t>(info.st_size) < kLengthBytes) {
    return absl::DataLossError(
        absl::StrCat(path_, ": ", info.st_size, " bytes are too few for a safetensors file"));
  }
  void* map = mmap(nullptr, info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", path_));
  map_ = static_cast<const std::byte*>(map);
  num_bytes_ = info.st_size;
  return absl::OkStatus();
}

absl::Status SafetensorsFile::ParseHeader() {
  uint64_t header_bytes = 0;
  for (uint64_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= static_cast<uint64_t>(map_[i]) << (8 * i);
  }
  if (header_bytes > num_bytes_ - kLengthBytes) {
    return absl::DataLossError(absl::StrCat("the header says it has ", header_bytes,
                                            " bytes, the file has ", num_bytes_ - kLengthBytes,
                                            " after the length"));
  }
  if (header_bytes > kMaxHeaderBytes) {
    return absl::DataLossError(
        absl::StrCat("the header has ", header_bytes, " bytes; the limit is ", kMaxHeaderBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(map_ + kLengthBytes), header_bytes);
  const absl::StatusOr<Json> header = ParseJson(text, "header");
  if (!header.ok()) return absl::DataLossError(header.status().message());
  if (!header->is_object()) return absl::DataLossError("the header is not a JSON object");

  const std::byte* data = map_ + kLengthBytes + header_bytes;
  const uint64_t num_data_bytes = num_bytes_ - kLengthBytes - header_bytes;
  std::vector<Entry> entries;
  entries.reserve(header->size());
  for (const auto& [name, value] : header->items()) {
    if (name == "__metadata__") continue;
    Entry& entry = entries.emplace_back();
    entry.name = name;
    const absl::Status parsed = ParseEntry(value, num_data_bytes, entry);
    if (!parsed.ok()) return WithContext(parsed, absl::StrCat("tensor ", name));
  }
  RETURN_IF_ERROR(CheckLayout(entries, num_data_bytes));
  for (Entry& entry : entries) {
    if (entry.dtype) {
      tensors_[entry.name] = TensorView{*entry.dtype, std::move(entry.shape), data + entry.begin,
                                        entry.end - entry.begin};
    } else {
      unreadable_[entry.name] = entry.dtype_name;
    }
  }
  return absl::OkStatus();
}

}  // namespace orrery
