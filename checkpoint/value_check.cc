#include "checkpoint/value_check.h"

#include <algorithm>
#include <cstring>

namespace orrery {
namespace {

// Values of one block: a fixed count, so that the inner loop becomes vector code, and small enough
// for L1.
constexpr size_t kBlockBytes = 4096;

// Without the sign bit, in all four formats exactly the codes from kFirstBad on are not finite:
//   f32 0x7f800000   bf16 0x7f80   f16 0x7c00   fp8 e4m3 0x7f
template <typename Code>
bool HasBadCode(const Code (&codes)[kBlockBytes / sizeof(Code)], Code first_bad) {
  constexpr Code kMagnitude = static_cast<Code>(~Code{0}) >> 1;
  Code largest = 0;
  for (const Code code : codes) largest = std::max<Code>(largest, code & kMagnitude);
  return largest >= first_bad;
}

template <typename Code>
std::optional<int64_t> FindBadCode(const TensorView& tensor, Code first_bad) {
  constexpr size_t kBlock = kBlockBytes / sizeof(Code);
  Code codes[kBlock];  // The file may hold them at any alignment.
  for (size_t begin = 0; begin < tensor.num_bytes; begin += kBlockBytes) {
    const size_t num_bytes = std::min(kBlockBytes, tensor.num_bytes - begin);
    std::memcpy(codes, tensor.data + begin, num_bytes);
    std::memset(reinterpret_cast<char*>(codes) + num_bytes, 0, kBlockBytes - num_bytes);
    if (!HasBadCode<Code>(codes, first_bad)) continue;
    constexpr Code kMagnitude = static_cast<Code>(~Code{0}) >> 1;
    const Code* bad = std::find_if(codes, codes + kBlock, [first_bad](Code code) {
      return static_cast<Code>(code & kMagnitude) >= first_bad;
    });
    return static_cast<int64_t>(begin / sizeof(Code)) + (bad - codes);
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> FindNonFinite(const TensorView& tensor) {
  switch (tensor.dtype) {
    case DType::kF32:
      return FindBadCode<uint32_t>(tensor, 0x7f800000u);
    case DType::kBf16:
      return FindBadCode<uint16_t>(tensor, 0x7f80u);
    case DType::kF16:
      return FindBadCode<uint16_t>(tensor, 0x7c00u);
    case DType::kFp8E4m3:
      return FindBadCode<uint8_t>(tensor, 0x7fu);
  }
  return std::nullopt;
}

}  // namespace orrery
