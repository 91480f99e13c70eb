// What weights take of a device's memory, before any is loaded.
//
//   WeightLister lister;
//   RETURN_IF_ERROR(LoadModel(lister, ...).status());
//   ASSIGN_OR_RETURN(size_t bytes, WeightBytes(lister.TakeRecords(), config, StoredBy(config), numerics,
//                                              kernels));
//
// 0 for kernels that compute in the memory of the host. Errors: those of Kernels::MakeWeight that
// follow from shapes.
#ifndef ORRERY_MODEL_WEIGHT_BYTES_H_
#define ORRERY_MODEL_WEIGHT_BYTES_H_

#include <cstddef>
#include <functional>
#include <vector>

#include "base/dtypes.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "kernels/kernels.h"
#include "model/numerics.h"
#include "model/weight_list.h"

namespace orrery {

// How the tensor of an item is stored.
using StoredDType = std::function<DType(const WeightItem&)>;
// As published models have it, by config.json: bf16, and with scale blocks fp8 but for gate, embedding,
// head and the MTP module's join. Where the files are at hand, they know better
// (WeightFiles::stored_dtypes).
StoredDType StoredBy(const ModelConfig& config);

// How an item's weight is held, and what enters its products.
WeightFormat HeldAs(WeightItem::Kind kind, const Numerics& numerics);
ProductFormat ProductFormatOf(WeightItem::Kind kind, DType stored, const Numerics& numerics);

// Each in pieces as Device::Reserve counts them.
absl::StatusOr<size_t> WeightBytes(const std::vector<WeightRecord>& records,
                                   const ModelConfig& config, const StoredDType& stored,
                                   const Numerics& numerics, const Kernels& kernels);

}  // namespace orrery

#endif  // ORRERY_MODEL_WEIGHT_BYTES_H_
