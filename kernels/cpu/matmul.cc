#include <algorithm>
#include <typeinfo>

#include "base/check.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

// Rows that go through a weight together. Enough that products take longer than reading the weight
// from memory and decoding it, few enough that a chunk of their inputs (matmul-inl.h) stays in the
// cache, and to bound the scratch memory of a long prompt.
constexpr int64_t kMatmulRows = kMaxProductRows;
// Panels of a part of the work: as many as MatmulOfType takes at once, so that sharing cuts no tile.
constexpr int kPanelsPerUnit = 4;

// Between prepared rows, in f32 values. Lengths of rows are mostly powers of two, and the same inputs
// of many rows would then compete for a few sets of the cache: one line more spreads them.
int64_t PreparedStride(const PackedWeight& weight) { return weight.padded_inputs() + 16; }

const PackedWeight& Own(const Weight& weight) {
  ORRERY_CHECK(typeid(weight) == typeid(PackedWeight)) << "a weight of another implementation";
  return static_cast<const PackedWeight&>(weight);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> CpuKernels::MakeWeight(const WeightSource& source,
                                                               ProductFormat format,
                                                               WeightFormat held) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedWeight> weight, PackedWeight::Make(source, format, held));
  return weight;
}

absl::StatusOr<std::unique_ptr<Weight>> CpuKernels::MapWeight(const WeightImage& image) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedWeight> weight, PackedWeight::Map(image));
  return weight;
}

absl::StatusOr<size_t> CpuKernels::WeightBytes(const WeightSource& source, ProductFormat format,
                                               WeightFormat held) const {
  return PackedWeight::ImageBytes(source, format, held);
}

void CpuKernels::AddProduct(ConstMatrix x, const PackedWeight& weight, const float* bias,
                            Matrix out) {
  AddProductOf(num_prepared_, weight, bias, out);
  inputs_.push_back({.x = x,
                     .padded = weight.padded_inputs(),
                     .stride = PreparedStride(weight),
                     .round = weight.rounds_activations(),
                     .offset = num_prepared_});
  num_prepared_ += x.num_rows * PreparedStride(weight);
}

void CpuKernels::AddProductOf(int64_t input_offset, const PackedWeight& weight, const float* bias,
                              Matrix out) {
  MatmulJob& job = products_.emplace_back();
  weight.Describe(job);
  job.is_rounded = weight.rounds_activations();
  job.num_rows = out.num_rows;
  job.x_stride = PreparedStride(weight);
  job.bias = bias;
  job.out = out.data;
  job.out_stride = out.stride;
  input_offsets_.push_back(input_offset);
  num_decoded_ = std::max(num_decoded_, DecodedValues(weight.padded_inputs()));
}

void CpuKernels::Multiply() {
  PrepareInputs();
  int64_t work = 0;
  int num_units = 0;
  for (size_t i = 0; i < products_.size(); ++i) {
    MatmulJob& job = products_[i];
    job.x = prepared_.Get(0) + input_offsets_[i];
    const int num_panels = (job.num_outputs + kVectorLanes - 1) / kVectorLanes;
    num_units += (num_panels + kPanelsPerUnit - 1) / kPanelsPerUnit;
    first_unit_after_.push_back(num_units);
    // A row alone costs what its weights cost to read, and that is as much as four.
    work += std::max<int64_t>(job.num_rows, 4) * job.num_outputs * job.num_inputs;
  }
  for (Scratch& decoded : decoded_) decoded.Get(num_decoded_);
  Share(work, num_units, [this](int thread, int begin, int end) {
    size_t i = std::upper_bound(first_unit_after_.begin(), first_unit_after_.end(), begin) -
               first_unit_after_.begin();
    for (; begin < end; ++i) {
      MatmulJob job = products_[i];
      const int first = i == 0 ? 0 : first_unit_after_[i - 1];
      const int last = std::min(first_unit_after_[i], end);
      job.panel_begin = (begin - first) * kPanelsPerUnit;
      job.panel_end = (last - first) * kPanelsPerUnit;
      job.decoded = decoded_[thread].Get(0);
      lanes_.matmul(job);
      begin = last;
    }
  });
  products_.clear();
  input_offsets_.clear();
  first_unit_after_.clear();
  num_decoded_ = 0;
}

void CpuKernels::PrepareInputs() {
  constexpr int64_t kRowsReadBehind = 15;  // see MatmulJob
  int64_t max_stride = 0;
  for (const Input& input : inputs_) max_stride = std::max(max_stride, input.stride);
  float* const prepared = prepared_.Get(num_prepared_ + kRowsReadBehind * max_stride);
  int num_rows = 0;
  for (const Input& input : inputs_) {
    num_rows += static_cast<int>(input.x.num_rows);
    first_row_after_.push_back(num_rows);
  }
  Share(num_prepared_ * 4, num_rows, [&](int, int begin, int end) {
    size_t i = std::upper_bound(first_row_after_.begin(), first_row_after_.end(), begin) -
               first_row_after_.begin();
    for (; begin < end; ++i) {
      const Input& input = inputs_[i];
      const int first = i == 0 ? 0 : first_row_after_[i - 1];
      const int last = std::min(first_row_after_[i], end);
      lanes_.prepare_rows({.from = input.x.row(begin - first),
                           .from_stride = input.x.stride,
                           .num_rows = last - begin,
                           .num = static_cast<int>(input.x.num_cols),
                           .padded = input.padded,
                           .round = input.round,
                           .to = prepared + input.offset + (begin - first) * input.stride,
                           .to_stride = input.stride,
                           .num_product_rows = input.x.num_rows});
      begin = last;
    }
  });
  inputs_.clear();
  first_row_after_.clear();
  num_prepared_ = 0;
}

void CpuKernels::Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  CheckMatmul(x, weight, out);
  const PackedWeight& packed = Own(weight);
  for (int64_t r = 0; r < x.num_rows; r += kMatmulRows) {
    const int64_t num = std::min(kMatmulRows, x.num_rows - r);
    AddProduct(x.Rows(r, num), packed, bias, out.Rows(r, num));
    Multiply();
  }
}

void CpuKernels::MatmulHeads(ConstMatrix x, int x_head_stride,
                             absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                             int out_head_stride) {
  CheckMatmulHeads(x, x_head_stride, weights, out, out_head_stride);
  // Heads are narrow: few rows of all heads are as much as many of one weight.
  constexpr int64_t kRows = 64;
  for (int64_t r = 0; r < x.num_rows; r += kRows) {
    const int64_t num = std::min(kRows, x.num_rows - r);
    for (size_t h = 0; h < weights.size(); ++h) {
      const PackedWeight& packed = Own(*weights[h]);
      AddProduct({x.row(r) + h * x_head_stride, num, packed.num_inputs(), x.stride}, packed,
                 nullptr,
                 {out.row(r) + h * out_head_stride, num, packed.num_outputs(), out.stride});
    }
    Multiply();
  }
}

void CpuKernels::FeedForward(absl::Span<const FeedForwardArgs> all) {
  for (const FeedForwardArgs& args : all) {
    CheckFeedForward(args.x, *args.gate, *args.up, *args.down, args.out);
  }
  // Of the rows of all feed-forwards, one after the other, as many as fit.
  pieces_.clear();
  int64_t num_rows = 0;
  for (const FeedForwardArgs& args : all) {
    for (int64_t r = 0, num = 0; r < args.x.num_rows; r += num) {
      num = std::min(kMatmulRows, args.x.num_rows - r);
      if (num_rows + num > kGroupRows) {
        FeedForwardPieces();
        num_rows = 0;
      }
      pieces_.push_back(args);
      pieces_.back().x = args.x.Rows(r, num);
      pieces_.back().out = args.out.Rows(r, num);
      num_rows += num;
    }
  }
  FeedForwardPieces();
}

void CpuKernels::FeedForwardPieces() {
  int64_t num_gated = 0;
  for (const FeedForwardArgs& piece : pieces_) {
    num_gated += piece.x.num_rows * piece.gate->num_outputs();
  }
  float* gated = gated_.Get(num_gated);
  float* raised = raised_.Get(num_gated);
  for (const FeedForwardArgs& piece : pieces_) {
    const PackedWeight& gate = Own(*piece.gate);
    const PackedWeight& up = Own(*piece.up);
    const int64_t width = gate.num_outputs();
    const int64_t input_offset = num_prepared_;
    AddProduct(piece.x, gate, nullptr, {gated, piece.x.num_rows, width});
    const Matrix raised_rows(raised, piece.x.num_rows, width);
    if (gate.rounds_activations() == up.rounds_activations()) {
      AddProductOf(input_offset, up, nullptr, raised_rows);
    } else {
      AddProduct(piece.x, up, nullptr, raised_rows);
    }
    gated += piece.x.num_rows * width;
    raised += piece.x.num_rows * width;
  }
  Multiply();
  gated = gated_.Get(0);
  raised = raised_.Get(0);
  constexpr int64_t kValuesPerUnit = 4096;
  const int num_units = static_cast<int>((num_gated + kValuesPerUnit - 1) / kValuesPerUnit);
  Share(num_gated * 64, num_units, [&](int, int begin, int end) {
    const int64_t first = begin * kValuesPerUnit;
    const int64_t last = std::min(end * kValuesPerUnit, num_gated);
    lanes_.silu_times(gated + first, raised + first, static_cast<int>(last - first));
  });
  for (const FeedForwardArgs& piece : pieces_) {
    const int64_t width = piece.gate->num_outputs();
    AddProduct({gated, piece.x.num_rows, width}, Own(*piece.down), nullptr, piece.out);
    gated += piece.x.num_rows * width;
  }
  Multiply();
  pieces_.clear();
}

}  // namespace orrery
