// Weights viewed in the records of a packed store, and how they get there: items become parts.
//
//   item                                     parts
//   kLinear, kLinearF32, kFeedForward        "NAME", "NAME in f32", "NAME": Weight::Image()
//   kVector                                  "NAME": f32
//   kTable                                   "NAME as bf16 rows": bf16, or f32
//   kKvHeads                                 "NAME key 0", "NAME value 0", "NAME key 1", ...
//
// Nothing is copied where kernels work in host memory: a weight keeps the record that it lies in.
//
// Threads: one loader belongs to one thread. Errors: those of the store; DATA_LOSS for a part that is
// missing or is not what was asked for.
#ifndef ORRERY_MODEL_STORE_LOADER_H_
#define ORRERY_MODEL_STORE_LOADER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/store/packed_store.h"
#include "checkpoint/store/store_reader.h"
#include "checkpoint/store/store_writer.h"
#include "model/weight_loader.h"

namespace orrery {

class StoreLoader final : public WeightLoader {
 public:
  // Everything must outlive the loader.
  StoreLoader(const PackedStore* store, Kernels* kernels, Device* device,
              std::atomic<int64_t>* loaded_bytes)
      : store_(store), kernels_(kernels), device_(device), loaded_bytes_(loaded_bytes) {}

  void Expect(const std::vector<std::string>& records) override;
  absl::StatusOr<std::unique_ptr<Weight>> LoadWeight(const WeightItem& item) override;
  absl::StatusOr<Buffer> LoadVector(const WeightItem& item) override;
  absl::StatusOr<Table> LoadTable(const WeightItem& item) override;
  absl::StatusOr<KvHeadWeights> LoadKvHeads(const WeightItem& item) override;

 private:
  // Waits for it, once.
  absl::StatusOr<const StoredRecord*> Record(const std::string& key);
  absl::StatusOr<std::unique_ptr<Weight>> MapPart(const WeightItem& item, const std::string& part,
                                                  int num_outputs, int num_inputs);

  const PackedStore* store_;
  Kernels* kernels_;
  Device* device_;
  std::atomic<int64_t>* loaded_bytes_;
  std::unique_ptr<StoreReader> reader_;          // of what is expected
  std::map<std::string, StoredRecord> records_;  // taken from readers
};

// What the loader takes of a device with memory of its own for an item, in pieces as Device::Reserve counts them.
absl::StatusOr<size_t> StoredItemBytes(const PackedStore& store, const WeightItem& item);

// An item as parts, made by a loader for host memory; the object backs them.
class ItemParts {
 public:
  static absl::StatusOr<ItemParts> Make(const WeightItem& item, WeightLoader& loader);
  const std::vector<StoreWriter::Part>& parts() const { return parts_; }

 private:
  absl::Status Add(std::string name, const Weight& weight);
  void Add(std::string name, Buffer buffer);

  std::vector<StoreWriter::Part> parts_;
  std::vector<WeightImage> images_;
  std::vector<Buffer> buffers_;
};

}  // namespace orrery

#endif  // ORRERY_MODEL_STORE_LOADER_H_
