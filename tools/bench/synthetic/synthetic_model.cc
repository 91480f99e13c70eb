#include "tools/bench/synthetic/synthetic_model.h"

#include <array>
#include <bit>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "tools/bench/synthetic/synthetic_tokenizer.h"

namespace orrery {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

// As published checkpoints are cut.
constexpr int64_t kMaxFileBytes = int64_t{4} << 30;
// Made and written at a time; a multiple of 8 values of every format.
constexpr int64_t kBlockBytes = 1 << 20;
// Written last: a directory that has it is whole.
constexpr char kConfigFile[] = "config.json";

// SplitMix64 (Steele, Lea, Flood 2014).
class Generator {
 public:
  explicit Generator(uint64_t seed) : state_(seed << 40) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// The noise of one tensor, block by block. 16 bits of randomness make a value, 8 bits an fp8 code.
class Noise {
 public:
  Noise(const SyntheticTensor& tensor, uint64_t seed)
      : dtype_(tensor.dtype),
        low_(tensor.low),
        step_((tensor.high - tensor.low) / 65536.0f),
        generator_(seed) {
    for (int i = 0; i < 256; ++i) {
      codes_[i] = F32ToFp8E4m3(low_ + (tensor.high - low_) * (static_cast<float>(i) + 0.5f) / 256);
    }
  }

  // The next num_bytes; a multiple of 8 but for the last call.
  void Fill(char* to, int64_t num_bytes) {
    const int bytes = DTypeBytes(dtype_);
    uint64_t random = 0;
    int num_left = 0;  // draws that are left in it
    for (char* const end = to + num_bytes; to < end; to += bytes) {
      const int bits = bytes == 1 ? 8 : 16;
      if (num_left == 0) {
        random = generator_.Next();
        num_left = 64 / bits;
      }
      Put(random, to);
      random >>= bits;
      --num_left;
    }
  }

 private:
  void Put(uint64_t random, char* to) const {
    if (dtype_ == DType::kFp8E4m3) {
      *to = static_cast<char>(codes_[random & 0xff]);
      return;
    }
    const float value = low_ + step_ * (static_cast<float>(random & 0xffff) + 0.5f);
    const auto f32 = std::bit_cast<std::array<char, 4>>(value);
    const auto bf16 = std::bit_cast<std::array<char, 2>>(F32ToBf16(value));
    if (dtype_ == DType::kF32) {
      std::copy(f32.begin(), f32.end(), to);
    } else {
      std::copy(bf16.begin(), bf16.end(), to);
    }
  }

  const DType dtype_;
  const float low_;
  const float step_;
  Generator generator_;
  std::array<uint8_t, 256> codes_;
};

const char* SafetensorsName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kBf16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kFp8E4m3:
      return "F8_E4M3";
  }
  return "?";
}

absl::Status WriteFailed(const std::string& path) {
  return absl::ErrnoToStatus(errno != 0 ? errno : EIO, absl::StrCat("cannot write ", path));
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  return file ? absl::OkStatus() : WriteFailed(path);
}

// [begin, end) of the tensors go to one file.
struct FilePlan {
  std::string name;
  size_t begin = 0;
  size_t end = 0;
};

std::vector<FilePlan> PlanFiles(absl::Span<const SyntheticTensor> tensors) {
  std::vector<FilePlan> files;
  int64_t num_bytes = kMaxFileBytes;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (num_bytes + tensors[i].num_bytes() > kMaxFileBytes) {
      files.push_back({.name = "", .begin = i, .end = i});
      num_bytes = 0;
    }
    num_bytes += tensors[i].num_bytes();
    files.back().end = i + 1;
  }
  for (size_t i = 0; i < files.size(); ++i) {
    files[i].name = absl::StrFormat("model-%05d-of-%06d.safetensors", i + 1, files.size());
  }
  return files;
}

std::string Header(absl::Span<const SyntheticTensor> tensors) {
  nlohmann::json header = nlohmann::json::object();
  int64_t offset = 0;
  for (const SyntheticTensor& tensor : tensors) {
    const int64_t end = offset + tensor.num_bytes();
    header[tensor.name] = {{"dtype", SafetensorsName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto length = std::bit_cast<std::array<char, 8>>(static_cast<uint64_t>(text.size()));
  return std::string(length.begin(), length.end()) + text;
}

// Counts what is written.
struct Counter {
  const BytesDone& progress;
  int64_t total = 0;
  int64_t done = 0;

  void Add(int64_t num_bytes) {
    done += num_bytes;
    if (progress) progress(done, total);
  }
};

absl::Status WriteFile(const std::string& path, const FilePlan& plan,
                       absl::Span<const SyntheticTensor> all, Counter& counter) {
  const absl::Span<const SyntheticTensor> tensors = all.subspan(plan.begin, plan.end - plan.begin);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const std::string header = Header(tensors);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  std::vector<char> block(kBlockBytes);
  for (size_t i = 0; i < tensors.size(); ++i) {
    Noise noise(tensors[i], /*seed=*/plan.begin + i);
    for (int64_t left = tensors[i].num_bytes(); left > 0;) {
      const int64_t num = std::min(left, kBlockBytes);
      noise.Fill(block.data(), num);
      if (!file.write(block.data(), num)) return WriteFailed(path);
      counter.Add(num);
      left -= num;
    }
  }
  file.close();
  return file ? absl::OkStatus() : WriteFailed(path);
}

bool IsWhole(const std::string& dir, const std::string& config) {
  std::ifstream file(fs::path(dir) / kConfigFile, std::ios::binary);
  return file && std::string(std::istreambuf_iterator<char>(file), {}) == config;
}

absl::Status WriteIndex(const std::string& path, absl::Span<const FilePlan> files,
                        absl::Span<const SyntheticTensor> tensors, int64_t total) {
  nlohmann::json index = {{"metadata", {{"total_size", total}}}};
  for (const FilePlan& file : files) {
    for (size_t i = file.begin; i < file.end; ++i) index["weight_map"][tensors[i].name] = file.name;
  }
  return WriteText(path, index.dump() + "\n");
}

}  // namespace

int64_t SyntheticModelBytes(const SyntheticShape& shape) {
  int64_t total = 0;
  for (const SyntheticTensor& tensor : SyntheticTensors(shape)) total += tensor.num_bytes();
  return total;
}

absl::Status WriteSyntheticModel(const SyntheticShape& shape, const std::string& dir,
                                 const BytesDone& progress) {
  const std::string config = SyntheticConfig(shape);
  if (IsWhole(dir, config)) return absl::OkStatus();
  const int64_t total = SyntheticModelBytes(shape);
  std::error_code error;
  fs::create_directories(dir, error);
  if (!error) fs::remove(fs::path(dir) / kConfigFile, error);
  const fs::space_info space = error ? fs::space_info{} : fs::space(dir, error);
  if (error) return absl::UnavailableError(absl::StrCat(dir, ": ", error.message()));
  if (space.available < static_cast<uintmax_t>(total)) {
    return absl::ResourceExhaustedError(absl::StrCat(shape.name, " takes ", total, " bytes; ", dir,
                                                     " has room for ", space.available));
  }
  const auto path = [&](const std::string& name) { return (fs::path(dir) / name).string(); };
  const std::vector<SyntheticTensor> tensors = SyntheticTensors(shape);
  const std::vector<FilePlan> files = PlanFiles(tensors);
  Counter counter = {.progress = progress, .total = total};
  for (const FilePlan& file : files) {
    RETURN_IF_ERROR(WriteFile(path(file.name), file, tensors, counter));
  }
  RETURN_IF_ERROR(WriteIndex(path("model.safetensors.index.json"), files, tensors, total));
  RETURN_IF_ERROR(WriteText(path("tokenizer.json"), SyntheticTokenizer()));
  RETURN_IF_ERROR(WriteText(path("tokenizer_config.json"), SyntheticTokenizerConfig()));
  return WriteText(path(kConfigFile), config);
}

}  // namespace orrery
