#include "base/check.h"
#include "kernels/fp8_row_layout.h"
#include "kernels/kernels.h"

namespace orrery {

size_t EncodedRowBytes(RowFormat format, int width) {
  ORRERY_CHECK(width >= 0) << width;
  switch (format) {
    case RowFormat::kF32:
      return static_cast<size_t>(width) * 4;
    case RowFormat::kBf16:
      return static_cast<size_t>(width) * 2;
    case RowFormat::kFp8:
      return Fp8RowLayout(width).row_bytes();
  }
  ORRERY_CHECK(false) << "row format " << static_cast<int>(format);
  return 0;
}

}  // namespace orrery
