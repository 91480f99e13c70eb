#include "model/store_loader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "model/weight_list.h"

namespace orrery {
namespace {

std::string WeightPart(const WeightItem& item) {
  return item.kind == WeightItem::Kind::kLinearF32 ? item.name + " in f32" : item.name;
}

std::string TablePart(const WeightItem& item, DType dtype) {
  return absl::StrCat(item.name, " as ", std::string(DTypeName(dtype)), " rows");
}

std::string HeadPart(const WeightItem& item, const char* role, int head) {
  return absl::StrCat(item.name, " ", role, " ", head);
}

absl::Status WrongPart(const PackedStore& store, const std::string& part, const std::string& why) {
  return absl::DataLossError(absl::StrCat("the packed store ", store.dir(), ": ", part, " ", why,
                                          "; run `orrery pack` again"));
}

// 0 for a part that the store does not have; none is empty.
size_t PartBytes(const PackedStore& store, const WeightItem& item, const std::string& name) {
  const StoreRecord* const record = store.Find(RecordKeyOf(item.name));
  if (record == nullptr) return 0;
  for (const StorePart& part : record->parts) {
    if (part.name == name) return ReservedBytes(part.num_bytes);
  }
  return 0;
}

}  // namespace

void StoreLoader::Expect(const std::vector<std::string>& records) {
  reader_ = std::make_unique<StoreReader>(store_, records, loaded_bytes_);
}

absl::StatusOr<const StoredRecord*> StoreLoader::Record(const std::string& key) {
  const auto known = records_.find(key);
  if (known != records_.end()) return &known->second;
  absl::StatusOr<StoredRecord> record =
      reader_ == nullptr ? absl::NotFoundError("nothing is expected") : reader_->Take(key);
  // Nobody told: then it is read now.
  if (absl::IsNotFound(record.status()) && store_->Find(key) != nullptr) {
    record = StoreReader(store_, {key}, loaded_bytes_).Take(key);
  }
  if (absl::IsNotFound(record.status())) return WrongPart(*store_, key, "is missing");
  RETURN_IF_ERROR(record.status());
  return &records_.emplace(key, *std::move(record)).first->second;
}

absl::StatusOr<std::unique_ptr<Weight>> StoreLoader::MapPart(const WeightItem& item,
                                                             const std::string& part,
                                                             int num_outputs, int num_inputs) {
  ASSIGN_OR_RETURN(const StoredRecord* const record, Record(RecordKeyOf(item.name)));
  const absl::Span<const std::byte> bytes = record->Part(part);
  if (bytes.empty()) return WrongPart(*store_, part, "is missing");
  absl::StatusOr<std::unique_ptr<Weight>> weight = kernels_->MapWeight({bytes, record->memory});
  if (!weight.ok()) {
    return WrongPart(*store_, part, absl::StrCat("is no weight: ", weight.status().message()));
  }
  if ((*weight)->num_outputs() != num_outputs || (*weight)->num_inputs() != num_inputs) {
    return WrongPart(
        *store_, part,
        absl::StrCat("has shape [", (*weight)->num_outputs(), ", ", (*weight)->num_inputs(),
                     "], not [", num_outputs, ", ", num_inputs, "]"));
  }
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> StoreLoader::LoadWeight(const WeightItem& item) {
  return MapPart(item, WeightPart(item), item.num_rows, item.num_cols);
}

absl::StatusOr<Buffer> StoreLoader::LoadVector(const WeightItem& item) {
  ASSIGN_OR_RETURN(const StoredRecord* const record, Record(RecordKeyOf(item.name)));
  const absl::Span<const std::byte> bytes = record->Part(item.name);
  if (bytes.size() != sizeof(float) * item.num_rows) {
    return WrongPart(*store_, item.name,
                     absl::StrCat("has ", bytes.size(), " bytes, not ", item.num_rows, " values"));
  }
  return device_->Share(bytes.data(), bytes.size(), record->memory);
}

absl::StatusOr<Table> StoreLoader::LoadTable(const WeightItem& item) {
  ASSIGN_OR_RETURN(const StoredRecord* const record, Record(RecordKeyOf(item.name)));
  for (const DType dtype : {DType::kBf16, DType::kF32}) {
    const absl::Span<const std::byte> bytes = record->Part(TablePart(item, dtype));
    const size_t num_values = static_cast<size_t>(item.num_rows) * item.num_cols;
    if (bytes.empty() || bytes.size() != num_values * DTypeBytes(dtype)) continue;
    Table table;
    table.dtype = dtype;
    ASSIGN_OR_RETURN(table.data, device_->Share(bytes.data(), bytes.size(), record->memory));
    return table;
  }
  return WrongPart(*store_, item.name,
                   absl::StrCat("as ", item.num_rows, " rows of ", item.num_cols, " is missing"));
}

absl::StatusOr<KvHeadWeights> StoreLoader::LoadKvHeads(const WeightItem& item) {
  const auto& [num_heads, key_dim, value_dim, latent] = item.heads;
  KvHeadWeights weights;
  for (int head = 0; head < num_heads; ++head) {
    ASSIGN_OR_RETURN(auto key_up, MapPart(item, HeadPart(item, "key", head), latent, key_dim));
    ASSIGN_OR_RETURN(auto value_up,
                     MapPart(item, HeadPart(item, "value", head), value_dim, latent));
    weights.key_up.push_back(std::move(key_up));
    weights.value_up.push_back(std::move(value_up));
  }
  return weights;
}

absl::StatusOr<size_t> StoredItemBytes(const PackedStore& store, const WeightItem& item) {
  std::vector<std::string> parts;
  switch (item.kind) {
    case WeightItem::Kind::kLinear:
    case WeightItem::Kind::kLinearF32:
    case WeightItem::Kind::kFeedForward:
      parts = {WeightPart(item)};
      break;
    case WeightItem::Kind::kVector:
      parts = {item.name};
      break;
    case WeightItem::Kind::kTable: {
      const std::string as_bf16 = TablePart(item, DType::kBf16);
      parts = {PartBytes(store, item, as_bf16) > 0 ? as_bf16 : TablePart(item, DType::kF32)};
      break;
    }
    case WeightItem::Kind::kKvHeads:
      for (int head = 0; head < item.heads.num_heads; ++head) {
        parts.push_back(HeadPart(item, "key", head));
        parts.push_back(HeadPart(item, "value", head));
      }
      break;
  }
  size_t total = 0;
  for (const std::string& part : parts) {
    const size_t num_bytes = PartBytes(store, item, part);
    if (num_bytes == 0) return WrongPart(store, part, "is missing");
    total += num_bytes;
  }
  return total;
}

absl::StatusOr<ItemParts> ItemParts::Make(const WeightItem& item, WeightLoader& loader) {
  ItemParts made;
  switch (item.kind) {
    case WeightItem::Kind::kLinear:
    case WeightItem::Kind::kLinearF32:
    case WeightItem::Kind::kFeedForward: {
      ASSIGN_OR_RETURN(std::unique_ptr<Weight> weight, loader.LoadWeight(item));
      RETURN_IF_ERROR(made.Add(WeightPart(item), *weight));
      break;
    }
    case WeightItem::Kind::kVector: {
      ASSIGN_OR_RETURN(Buffer vector, loader.LoadVector(item));
      made.Add(item.name, std::move(vector));
      break;
    }
    case WeightItem::Kind::kTable: {
      ASSIGN_OR_RETURN(Table table, loader.LoadTable(item));
      made.Add(TablePart(item, table.dtype), std::move(table.data));
      break;
    }
    case WeightItem::Kind::kKvHeads: {
      ASSIGN_OR_RETURN(KvHeadWeights heads, loader.LoadKvHeads(item));
      for (size_t i = 0; i < heads.key_up.size(); ++i) {
        const int head = static_cast<int>(i);
        RETURN_IF_ERROR(made.Add(HeadPart(item, "key", head), *heads.key_up[i]));
        RETURN_IF_ERROR(made.Add(HeadPart(item, "value", head), *heads.value_up[i]));
      }
      break;
    }
  }
  return made;
}

absl::Status ItemParts::Add(std::string name, const Weight& weight) {
  ASSIGN_OR_RETURN(WeightImage image, weight.Image());
  parts_.push_back({.name = std::move(name), .bytes = image.bytes});
  images_.push_back(std::move(image));
  return absl::OkStatus();
}

void ItemParts::Add(std::string name, Buffer buffer) {
  parts_.push_back(
      {.name = std::move(name), .bytes = {buffer.as<const std::byte>(), buffer.num_bytes()}});
  buffers_.push_back(std::move(buffer));
}

}  // namespace orrery
