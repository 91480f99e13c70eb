#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/cases.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

// num_sequences of one layer, each with num_rows rows that end at the context's end.
struct Attention {
  std::string operation;
  int num_sequences = 1;
  int num_rows = 1;
  int context = 0;

  int blocks_per_sequence() const { return (context + kKvBlockTokens - 1) / kKvBlockTokens; }
};

Work WorkOf(const Attention& attention, const KernelPreset& preset) {
  const int row_width = preset.kv_lora_rank + preset.rope_dim;
  // Row r of num_rows sees the tokens up to its own.
  double num_seen = 0.0;
  for (int r = 0; r < attention.num_rows; ++r) {
    num_seen += attention.context - attention.num_rows + r + 1;
  }
  return {.bytes = 1.0 * attention.num_sequences * attention.context * row_width * sizeof(uint16_t),
          .flops = 2.0 * attention.num_sequences * preset.num_heads * num_seen *
                   (row_width + preset.kv_lora_rank)};
}

absl::Status MeasureOne(const Attention& attention, const KernelPreset& preset,
                        const KernelCase& what, KernelMeter& meter) {
  const int row_width = preset.kv_lora_rank + preset.rope_dim;
  const Work work = WorkOf(attention, preset);
  // Caches of as many layers as the working set holds.
  const int num_layers = meter.NumCopies(work.bytes);
  const int num_blocks = attention.num_sequences * attention.blocks_per_sequence();
  ASSIGN_OR_RETURN(
      const Buffer cache,
      meter.Upload(Bf16Noise(
          static_cast<size_t>(num_layers) * num_blocks * kKvBlockTokens * row_width, /*seed=*/1)));
  std::vector<int32_t> block_ids(static_cast<size_t>(num_layers) * num_blocks);
  std::iota(block_ids.begin(), block_ids.end(), 0);
  const int num_rows = attention.num_sequences * attention.num_rows;
  const size_t num_heads = static_cast<size_t>(num_rows) * preset.num_heads;
  ASSIGN_OR_RETURN(const Buffer q, meter.Upload(Noise(num_heads * row_width, /*seed=*/2)));
  ASSIGN_OR_RETURN(const Buffer out,
                   meter.Allocate(num_heads * preset.kv_lora_rank * sizeof(float)));
  const ConstMatrix queries(q.as<float>(), num_rows, preset.num_heads * row_width);
  const Matrix results(out.as<float>(), num_rows, preset.num_heads * preset.kv_lora_rank);

  AttendArgs args;
  args.num_heads = preset.num_heads;
  args.key_dim = row_width;
  args.value_dim = preset.kv_lora_rank;
  args.scale = 1.0f / std::sqrt(static_cast<float>(preset.nope_dim + preset.rope_dim));
  args.cache = {.format = DType::kBf16,
                .data = cache.as<std::byte>(),
                .num_blocks = num_layers * num_blocks,
                .row_width = row_width};
  args.first_position = attention.context - attention.num_rows;
  std::vector<AttendArgs> all(attention.num_sequences, args);
  for (int s = 0; s < attention.num_sequences; ++s) {
    all[s].q = queries.Rows(s * attention.num_rows, attention.num_rows);
    all[s].out = results.Rows(s * attention.num_rows, attention.num_rows);
  }
  int layer = 0;
  const auto run = [&] {
    for (int s = 0; s < attention.num_sequences; ++s) {
      const size_t first =
          static_cast<size_t>(layer) * num_blocks + s * attention.blocks_per_sequence();
      all[s].block_ids =
          absl::MakeConstSpan(block_ids).subspan(first, attention.blocks_per_sequence());
    }
    meter.kernels().Attend(all);
    layer = (layer + 1) % num_layers;
  };
  return meter.Measure(what, work, {.run = run, .run_peer = nullptr});
}

}  // namespace

absl::Status MeasureAttention(const KernelPreset& preset, KernelMeter& meter) {
  std::vector<Attention> attentions;
  for (const int context : preset.decode_contexts) {
    for (const int batch : preset.decode_batches) {
      attentions.push_back({absl::StrCat("attend_decode_", context), batch, 1, context});
    }
  }
  attentions.push_back({absl::StrCat("attend_prefill_", preset.prefill_context), 1,
                        preset.prefill_rows, preset.prefill_context});
  for (const Attention& attention : attentions) {
    const KernelCase what = {
        .operation = attention.operation,
        .format = "bf16",
        .num_rows = attention.num_sequences * attention.num_rows,
        .shape = absl::StrCat(preset.num_heads, " heads, ", attention.context, " tokens")};
    if (meter.Wants(what)) RETURN_IF_ERROR(MeasureOne(attention, preset, what, meter));
  }
  return absl::OkStatus();
}

}  // namespace orrery
