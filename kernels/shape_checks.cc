#include "kernels/shape_checks.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "kernels/fp8_row_layout.h"

namespace orrery {

absl::Status CheckWeightSource(const WeightSource& source, ProductFormat format,
                               WeightFormat held) {
  if (source.num_outputs <= 0 || source.num_inputs <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("weight of shape [", source.num_outputs, ", ",
                                                   source.num_inputs, "]: sizes must be positive"));
  }
  if (source.data == nullptr) return absl::InvalidArgumentError("weight without data");
  if (format == ProductFormat::kFp8 &&
      (source.dtype != DType::kFp8E4m3 || held != WeightFormat::kStored)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "products of fp8 activations need a weight that is fp8 and held as stored; this one is ",
        std::string(DTypeName(source.dtype)),
        held == WeightFormat::kStored ? "" : ", to be quantised"));
  }
  if (source.dtype != DType::kFp8E4m3) {
    if (source.scales == nullptr) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("scales belong to fp8 weights, not to ",
                                                   std::string(DTypeName(source.dtype))));
  }
  if (source.scales == nullptr) return absl::InvalidArgumentError("fp8 weight without scales");
  if (source.scale_block_outputs <= 0 || source.scale_block_inputs <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("scale block of [", source.scale_block_outputs,
                                                   ", ", source.scale_block_inputs,
                                                   "]: sizes must be positive"));
  }
  if (format == ProductFormat::kFp8 && source.scale_block_inputs != kFp8GroupSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("products of fp8 activations need weights with a scale per ", kFp8GroupSize,
                     " inputs, not per ", source.scale_block_inputs));
  }
  return absl::OkStatus();
}

void CheckSameShape(const ConstMatrix& a, const ConstMatrix& b) {
  ORRERY_CHECK(a.num_rows == b.num_rows && a.num_cols == b.num_cols)
      << "[" << a.num_rows << ", " << a.num_cols << "] against [" << b.num_rows << ", "
      << b.num_cols << "]";
}

void CheckMatmul(const ConstMatrix& x, const Weight& weight, const ConstMatrix& out) {
  ORRERY_CHECK(x.num_cols == weight.num_inputs() && out.num_cols == weight.num_outputs() &&
               x.num_rows == out.num_rows)
      << "x [" << x.num_rows << ", " << x.num_cols << "], weight [" << weight.num_outputs() << ", "
      << weight.num_inputs() << "], out [" << out.num_rows << ", " << out.num_cols << "]";
}

void CheckMatmulHeads(const ConstMatrix& x, int x_head_stride,
                      absl::Span<const std::unique_ptr<Weight>> weights, const ConstMatrix& out,
                      int out_head_stride) {
  ORRERY_CHECK(!weights.empty() && x.num_rows == out.num_rows)
      << weights.size() << " heads, " << x.num_rows << " rows to " << out.num_rows;
  const int num_inputs = weights[0]->num_inputs();
  const int num_outputs = weights[0]->num_outputs();
  for (const std::unique_ptr<Weight>& weight : weights) {
    ORRERY_CHECK(weight->num_inputs() == num_inputs && weight->num_outputs() == num_outputs)
        << "[" << weight->num_outputs() << ", " << weight->num_inputs() << "] beside ["
        << num_outputs << ", " << num_inputs << "]";
  }
  const int64_t last = static_cast<int64_t>(weights.size()) - 1;
  ORRERY_CHECK(x_head_stride >= 0 && last * x_head_stride + num_inputs <= x.num_cols &&
               (last == 0 || out_head_stride >= num_outputs) &&
               last * out_head_stride + num_outputs <= out.num_cols)
      << weights.size() << " heads of [" << num_outputs << ", " << num_inputs << "]: x row of "
      << x.num_cols << ", " << x_head_stride << " apart; out row of " << out.num_cols << ", "
      << out_head_stride << " apart";
}

void CheckFeedForward(ConstMatrix x, const Weight& gate, const Weight& up, const Weight& down,
                      ConstMatrix out) {
  ORRERY_CHECK(x.num_cols == gate.num_inputs() && x.num_cols == up.num_inputs() &&
               gate.num_outputs() == up.num_outputs() && down.num_inputs() == gate.num_outputs() &&
               down.num_outputs() == out.num_cols && x.num_rows == out.num_rows)
      << "x [" << x.num_rows << ", " << x.num_cols << "], gate [" << gate.num_outputs() << ", "
      << gate.num_inputs() << "], up [" << up.num_outputs() << ", " << up.num_inputs()
      << "], down [" << down.num_outputs() << ", " << down.num_inputs() << "], out ["
      << out.num_rows << ", " << out.num_cols << "]";
}

void CheckRope(ConstMatrix x, int num_heads, int head_stride, int first_position,
               const RopeTable& table) {
  ORRERY_CHECK(table.dim > 0 && table.dim % 2 == 0) << "rope dim " << table.dim;
  ORRERY_CHECK(num_heads >= 1 &&
               static_cast<int64_t>(num_heads - 1) * head_stride + table.dim <= x.num_cols)
      << num_heads << " heads, " << head_stride << " apart, dim " << table.dim << ", row of "
      << x.num_cols;
  ORRERY_CHECK(first_position >= 0 && first_position + x.num_rows <= table.num_positions)
      << x.num_rows << " rows from position " << first_position << ", table of "
      << table.num_positions;
}

void CheckKvCache(const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                  int64_t num_positions) {
  ORRERY_CHECK(cache.format == DType::kF32 || cache.format == DType::kBf16)
      << "cache format " << DTypeName(cache.format);
  const int64_t num_blocks = (num_positions + kKvBlockTokens - 1) / kKvBlockTokens;
  ORRERY_CHECK(num_blocks <= static_cast<int64_t>(block_ids.size()))
      << num_positions << " positions in " << block_ids.size() << " blocks";
  for (int64_t i = 0; i < num_blocks; ++i) {
    ORRERY_CHECK(block_ids[i] >= 0 && block_ids[i] < cache.num_blocks)
        << "block " << block_ids[i] << " of " << cache.num_blocks;
  }
}

void CheckAppendKv(ConstMatrix rows, const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                   int first_position) {
  ORRERY_CHECK(rows.num_cols == cache.row_width)
      << "row of " << rows.num_cols << ", cache row of " << cache.row_width;
  ORRERY_CHECK(first_position >= 0) << first_position;
  CheckKvCache(cache, block_ids, first_position + rows.num_rows);
}

void CheckAttendShapes(const AttendArgs& args) {
  ORRERY_CHECK(args.num_heads > 0 && args.key_dim > 0 && args.value_dim > 0)
      << args.num_heads << " heads, key " << args.key_dim << ", value " << args.value_dim;
  ORRERY_CHECK(args.q.num_cols == static_cast<int64_t>(args.num_heads) * args.key_dim &&
               args.out.num_cols == static_cast<int64_t>(args.num_heads) * args.value_dim &&
               args.q.num_rows == args.out.num_rows)
      << "q [" << args.q.num_rows << ", " << args.q.num_cols << "], out [" << args.out.num_rows
      << ", " << args.out.num_cols << "], " << args.num_heads << " heads, key " << args.key_dim
      << ", value " << args.value_dim;
  const int width = args.cache.row_width;
  ORRERY_CHECK(args.key_offset >= 0 && args.key_offset + args.key_dim <= width &&
               args.value_offset >= 0 && args.value_offset + args.value_dim <= width)
      << "key " << args.key_offset << " + " << args.key_dim << ", value " << args.value_offset
      << " + " << args.value_dim << ", cache row of " << width;
}

void CheckAttend(const AttendArgs& args) {
  CheckAttendShapes(args);
  ORRERY_CHECK(args.begin_position >= 0 && args.begin_position <= args.first_position)
      << "the first row, at position " << args.first_position << ", sees from position "
      << args.begin_position;
  CheckKvCache(args.cache, args.block_ids, args.first_position + args.q.num_rows);
}

void CheckGate(ConstMatrix logits, const GateParams& params) {
  ORRERY_CHECK(logits.num_cols == params.num_experts && params.num_experts > 0)
      << logits.num_cols << " logits, " << params.num_experts << " experts";
  ORRERY_CHECK(params.num_groups > 0 && params.num_experts % params.num_groups == 0)
      << params.num_experts << " experts in " << params.num_groups << " groups";
  ORRERY_CHECK(params.num_kept_groups > 0 && params.num_kept_groups <= params.num_groups)
      << params.num_kept_groups << " of " << params.num_groups << " groups";
  const int num_candidates = params.num_experts / params.num_groups * params.num_kept_groups;
  ORRERY_CHECK(params.topk > 0 && params.topk <= num_candidates)
      << params.topk << " of " << num_candidates << " experts in the kept groups";
}

void CheckForcedIds(const int32_t* forced_ids, const GateParams& params) {
  int32_t previous = -1;
  for (int j = 0; j < params.topk; ++j) {
    ORRERY_CHECK(forced_ids[j] > previous && forced_ids[j] < params.num_experts)
        << "forced expert " << forced_ids[j] << " after " << previous << " of "
        << params.num_experts;
    previous = forced_ids[j];
  }
}

void CheckWeightedSum(ConstMatrix rows, int topk, ConstMatrix out) {
  ORRERY_CHECK(topk > 0 && rows.num_rows == out.num_rows * topk && rows.num_cols == out.num_cols)
      << "rows [" << rows.num_rows << ", " << rows.num_cols << "], topk " << topk << ", out ["
      << out.num_rows << ", " << out.num_cols << "]";
}

}  // namespace orrery
