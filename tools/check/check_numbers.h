// Golden folders of plain numbers: fp8 conversion and rope frequencies.
#ifndef ORRERY_TOOLS_CHECK_CHECK_NUMBERS_H_
#define ORRERY_TOOLS_CHECK_CHECK_NUMBERS_H_

#include "base/status.h"
#include "device/device.h"
#include "kernels/kernels.h"
#include "tools/check/golden_file.h"
#include "tools/check/report.h"

namespace orrery {

// decode_table, encode {x, code}, act_quant {x, scale, codes, and the same with ue8m0 scales}; the
// last with the row encoder of a processor. Exact.
struct RowEncoder {
  Device* device = nullptr;
  Stream* stream = nullptr;
  Kernels* kernels = nullptr;
};
absl::Status CheckFp8(const GoldenFile& golden, const RowEncoder& encoder, Report& report);

// Inverse frequencies, angles and softmax scales of published models, computed in f64: within 1e-12
// of the golden.
absl::Status CheckRopeTables(const GoldenFile& golden, Report& report);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_CHECK_NUMBERS_H_
