#include "kernels/conformance/mirrored_kernels.h"

#include <algorithm>

#include "base/check.h"

namespace orrery {
namespace {

constexpr size_t kAlignment = 64;

size_t CacheBytes(const KvCacheView& cache) {
  return static_cast<size_t>(cache.num_blocks) * kKvBlockTokens * cache.row_width *
         DTypeBytes(cache.format);
}

}  // namespace

void Mirror::Add(const void* data, size_t num_bytes, bool is_written) {
  if (data == nullptr || num_bytes == 0) return;
  auto* const begin = static_cast<std::byte*>(const_cast<void*>(data));
  places_.push_back({begin, begin + num_bytes, 0});
  if (is_written) written_.push_back(places_.back());
}

void Mirror::AddMatrix(const ConstMatrix& matrix, bool is_written) {
  if (matrix.num_rows == 0) return;
  const int64_t num = (matrix.num_rows - 1) * matrix.stride + matrix.num_cols;
  Add(matrix.data, num * sizeof(float), is_written);
}

void Mirror::Upload() {
  std::sort(places_.begin(), places_.end(),
            [](const Place& a, const Place& b) { return a.begin < b.begin; });
  std::vector<Place> apart;
  size_t used = 0;
  for (const Place& place : places_) {
    if (!apart.empty() && place.begin < apart.back().end) {
      apart.back().end = std::max(apart.back().end, place.end);
    } else {
      apart.push_back(place);
    }
  }
  for (Place& place : apart) {
    place.offset = used + reinterpret_cast<uintptr_t>(place.begin) % kAlignment;
    used = (place.offset + (place.end - place.begin) + kAlignment) / kAlignment * kAlignment;
  }
  places_ = std::move(apart);
  if (used > memory_.num_bytes()) {
    absl::StatusOr<Buffer> memory = device_->Allocate(used, MemoryKind::kDevice);
    ORRERY_CHECK(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
  }
  for (const Place& place : places_) {
    stream_->CopyToDevice(memory_.as<std::byte>() + place.offset, place.begin,
                          place.end - place.begin);
  }
}

const void* Mirror::Find(const void* data) const {
  for (const Place& place : places_) {
    if (data >= place.begin && data < place.end) {
      return memory_.as<std::byte>() + place.offset +
             (static_cast<const std::byte*>(data) - place.begin);
    }
  }
  return nullptr;
}

void Mirror::Download() {
  for (const Place& place : written_) {
    stream_->CopyToHost(place.begin, Find(place.begin), place.end - place.begin);
  }
  const absl::Status status = stream_->Synchronize();
  ORRERY_CHECK(status.ok()) << status;
  places_.clear();
  written_.clear();
}

void MirroredKernels::Embed(DType dtype, const void* table, absl::Span<const int32_t> ids,
                            Matrix out) {
  int32_t num_ids = 0;
  for (const int32_t id : ids) num_ids = std::max(num_ids, id + 1);
  mirror_.Add(table, num_ids * out.num_cols * DTypeBytes(dtype), false);
  mirror_.Add(out);
  mirror_.Upload();
  kernels_->Embed(dtype, mirror_.At(table), ids, mirror_.At(out));
  mirror_.Download();
}

void MirroredKernels::RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) {
  mirror_.Add(x);
  mirror_.Add(weight, x.num_cols * sizeof(float), false);
  mirror_.Add(out);
  mirror_.Upload();
  kernels_->RmsNorm(mirror_.At(x), mirror_.At(weight), eps, mirror_.At(out));
  mirror_.Download();
}

void MirroredKernels::Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  mirror_.Add(x);
  mirror_.Add(bias, out.num_cols * sizeof(float), false);
  mirror_.Add(out);
  mirror_.Upload();
  kernels_->Matmul(mirror_.At(x), weight, mirror_.At(bias), mirror_.At(out));
  mirror_.Download();
}

void MirroredKernels::MatmulHeads(ConstMatrix x, int x_head_stride,
                                  absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                                  int out_head_stride) {
  mirror_.Add(x);
  mirror_.Add(out);
  mirror_.Upload();
  kernels_->MatmulHeads(mirror_.At(x), x_head_stride, weights, mirror_.At(out), out_head_stride);
  mirror_.Download();
}

void MirroredKernels::Rope(Matrix x, int num_heads, int head_stride, int first_position,
                           RopePairing pairing, const RopeTable& table) {
  const size_t table_bytes = sizeof(float) * table.num_positions * (table.dim / 2);
  mirror_.Add(x);
  mirror_.Add(table.cos, table_bytes, false);
  mirror_.Add(table.sin, table_bytes, false);
  mirror_.Upload();
  const RopeTable mirrored = {mirror_.At(table.cos), mirror_.At(table.sin), table.num_positions,
                              table.dim};
  kernels_->Rope(mirror_.At(x), num_heads, head_stride, first_position, pairing, mirrored);
  mirror_.Download();
}

void MirroredKernels::AppendKv(ConstMatrix rows, const KvCacheView& cache,
                               absl::Span<const int32_t> block_ids, int first_position) {
  mirror_.Add(rows);
  mirror_.Add(cache.data, CacheBytes(cache), true);
  mirror_.Upload();
  KvCacheView mirrored = cache;
  mirrored.data = mirror_.At(cache.data);
  kernels_->AppendKv(mirror_.At(rows), mirrored, block_ids, first_position);
  mirror_.Download();
}

void MirroredKernels::Attend(absl::Span<const AttendArgs> all) {
  for (const AttendArgs& args : all) {
    mirror_.Add(args.q);
    mirror_.Add(args.cache.data, CacheBytes(args.cache), false);
    mirror_.Add(args.out);
  }
  mirror_.Upload();
  std::vector<AttendArgs> mirrored(all.begin(), all.end());
  for (AttendArgs& args : mirrored) {
    args.q = mirror_.At(args.q);
    args.cache.data = mirror_.At(args.cache.data);
    args.out = mirror_.At(args.out);
  }
  kernels_->Attend(absl::MakeConstSpan(mirrored));
  mirror_.Download();
}

void MirroredKernels::FeedForward(absl::Span<const FeedForwardArgs> all) {
  for (const FeedForwardArgs& args : all) {
    mirror_.Add(args.x);
    mirror_.Add(args.out);
  }
  mirror_.Upload();
  std::vector<FeedForwardArgs> mirrored(all.begin(), all.end());
  for (FeedForwardArgs& args : mirrored) {
    args.x = mirror_.At(args.x);
    args.out = mirror_.At(args.out);
  }
  kernels_->FeedForward(absl::MakeConstSpan(mirrored));
  mirror_.Download();
}

void MirroredKernels::Add(ConstMatrix y, Matrix x) {
  mirror_.Add(y);
  mirror_.Add(x);
  mirror_.Upload();
  kernels_->Add(mirror_.At(y), mirror_.At(x));
  mirror_.Download();
}

void MirroredKernels::Copy(ConstMatrix from, Matrix to) {
  mirror_.Add(from);
  mirror_.Add(to);
  mirror_.Upload();
  kernels_->Copy(mirror_.At(from), mirror_.At(to));
  mirror_.Download();
}

void MirroredKernels::Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
                           int32_t* expert_ids, float* weights) {
  const size_t num_chosen = logits.num_rows * params.topk;
  mirror_.Add(logits);
  mirror_.Add(params.bias, params.num_experts * sizeof(float), false);
  mirror_.Add(forced_ids, num_chosen * sizeof(int32_t), false);
  mirror_.Add(expert_ids, num_chosen * sizeof(int32_t), true);
  mirror_.Add(weights, num_chosen * sizeof(float), true);
  mirror_.Upload();
  GateParams mirrored = params;
  mirrored.bias = mirror_.At(params.bias);
  kernels_->Gate(mirror_.At(logits), mirrored, mirror_.At(forced_ids), mirror_.At(expert_ids),
                 mirror_.At(weights));
  mirror_.Download();
}

void MirroredKernels::EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) {
  mirror_.Add(rows);
  mirror_.Add(encoded, rows.num_rows * EncodedRowBytes(format, static_cast<int>(rows.num_cols)),
              true);
  mirror_.Upload();
  kernels_->EncodeRows(mirror_.At(rows), format, mirror_.At(encoded));
  mirror_.Download();
}

void MirroredKernels::DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) {
  mirror_.Add(encoded, rows.num_rows * EncodedRowBytes(format, static_cast<int>(rows.num_cols)),
              false);
  mirror_.Add(rows);
  mirror_.Upload();
  kernels_->DecodeRows(mirror_.At(encoded), format, mirror_.At(rows));
  mirror_.Download();
}

void MirroredKernels::WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) {
  mirror_.Add(rows);
  mirror_.Add(weights, rows.num_rows * sizeof(float), false);
  mirror_.Add(out);
  mirror_.Upload();
  kernels_->WeightedSum(mirror_.At(rows), mirror_.At(weights), topk, mirror_.At(out));
  mirror_.Download();
}

void MirroredKernels::LogSoftmax(ConstMatrix logits, Matrix out) {
  mirror_.Add(logits);
  mirror_.Add(out);
  mirror_.Upload();
  kernels_->LogSoftmax(mirror_.At(logits), mirror_.At(out));
  mirror_.Download();
}

}  // namespace orrery
