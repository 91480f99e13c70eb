// One stored value as f32, from memory of any alignment.
#ifndef ORRERY_KERNELS_LOAD_VALUE_H_
#define ORRERY_KERNELS_LOAD_VALUE_H_

#include <cstdint>
#include <cstring>

#include "base/dtypes.h"

namespace orrery {

inline float LoadValue(DType dtype, const void* data, int64_t index) {
  const char* at = static_cast<const char*>(data) + index * DTypeBytes(dtype);
  uint16_t half = 0;
  float value = 0.0f;
  switch (dtype) {
    case DType::kF32:
      std::memcpy(&value, at, sizeof(value));
      return value;
    case DType::kBf16:
      std::memcpy(&half, at, sizeof(half));
      return Bf16ToF32(half);
    case DType::kF16:
      std::memcpy(&half, at, sizeof(half));
      return F16ToF32(half);
    case DType::kFp8E4m3:
      return Fp8E4m3ToF32(static_cast<uint8_t>(*at));
  }
  return value;
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_LOAD_VALUE_H_
