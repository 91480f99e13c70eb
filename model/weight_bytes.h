// What weights take of a device's memory, before any is loaded.
//
//   WeightLister lister;
//   RETURN_IF_ERROR(LoadModel(lister, ...).status());
//   ASSIGN_OR_RETURN(size_t bytes, WeightBytes(lister.TakeRecords(), files.item_bytes(config, numerics, kernels)));
//
// Errors: those of Kernels::MakeWeight that follow from shapes.
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
// head and the MTP module's join.
StoredDType StoredBy(const ModelConfig& config);

// What an item takes, in pieces as Device::Reserve counts them. Where the files are at hand, they know best:
// WeightFiles::item_bytes.
using ItemBytes = std::function<absl::StatusOr<size_t>(const WeightItem&)>;
// Of tensors that are stored so, once weights are made of them. config and kernels outlive the answer.
ItemBytes BytesOf(const ModelConfig& config, StoredDType stored, const Numerics& numerics,
                  const Kernels& kernels);

// How an item's weight is held, and what enters its products.
WeightFormat HeldAs(WeightItem::Kind kind, const Numerics& numerics);
ProductFormat ProductFormatOf(WeightItem::Kind kind, DType stored, const Numerics& numerics);

absl::StatusOr<size_t> WeightBytes(const std::vector<WeightRecord>& records,
                                   const ItemBytes& item_bytes);

// What the host needs beside the weights while a checkpoint's items are made into them, one after the other.
size_t LoadingBytes(const std::vector<WeightRecord>& records);

}  // namespace orrery

#endif  // ORRERY_MODEL_WEIGHT_BYTES_H_
