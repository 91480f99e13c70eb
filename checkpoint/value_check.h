// Finds a value that no weight may have. Reads the whole tensor, at about the speed of memory.
#ifndef ORRERY_CHECKPOINT_VALUE_CHECK_H_
#define ORRERY_CHECKPOINT_VALUE_CHECK_H_

#include <cstdint>
#include <optional>

#include "checkpoint/safetensors.h"

namespace orrery {

// Index, row major, of the first NaN or infinity (fp8 e4m3 has no infinity).
std::optional<int64_t> FindNonFinite(const TensorView& tensor);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_VALUE_CHECK_H_
