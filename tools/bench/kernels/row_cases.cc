#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/cases.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

constexpr int kNumRows = 64;      // of a call
constexpr int kNumLogitRows = 8;  // they are long
constexpr float kEps = 1e-6f;

// Memory that is gone through in pieces, round and round.
template <typename T>
class Ring {
 public:
  Ring(std::vector<T> values, size_t piece) : values_(std::move(values)), piece_(piece) {}
  const T* Next() {
    if (next_ + piece_ > values_.size()) next_ = 0;
    return values_.data() + std::exchange(next_, next_ + piece_);
  }

 private:
  std::vector<T> values_;
  size_t piece_;
  size_t next_ = 0;
};

// f32 rows from memory, results to a buffer that stays in the cache.
class RowCases {
 public:
  RowCases(const KernelPreset& preset, KernelMeter& meter) : preset_(preset), meter_(meter) {}

  // run(rows, out): as many rows of the width as it likes, all of which it reads once.
  template <typename Run>
  void Measure(const KernelCase& what, int64_t num_read, int width, size_t num_out,
               const Run& run) {
    if (!meter_.Wants(what)) return;
    const size_t piece = static_cast<size_t>(num_read) * width;
    Ring<float> ring(Noise(piece * meter_.NumCopies(piece * sizeof(float)), /*seed=*/1), piece);
    std::vector<float> out(num_out);
    meter_.Measure(what, {.bytes = static_cast<double>(piece * sizeof(float))},
                   {.run = [&] { run(ConstMatrix(ring.Next(), num_read, width), out.data()); },
                    .run_peer = nullptr});
  }

  void MeasureDecode(RowFormat format, const std::string& name);

 private:
  const KernelPreset& preset_;
  KernelMeter& meter_;
};

void RowCases::MeasureDecode(RowFormat format, const std::string& name) {
  const KernelCase what = {.operation = "decode_rows",
                           .format = name,
                           .num_rows = kNumRows,
                           .shape = absl::StrCat(preset_.hidden)};
  if (!meter_.Wants(what)) return;
  const size_t piece = kNumRows * EncodedRowBytes(format, preset_.hidden);
  std::vector<float> rows = Noise(static_cast<size_t>(kNumRows) * preset_.hidden, /*seed=*/1);
  std::vector<std::byte> encoded(piece * meter_.NumCopies(static_cast<double>(piece)));
  meter_.kernels().EncodeRows({rows.data(), kNumRows, preset_.hidden}, format, encoded.data());
  for (size_t at = piece; at < encoded.size(); at += piece) {
    std::copy_n(encoded.begin(), piece, encoded.begin() + at);
  }
  Ring<std::byte> ring(std::move(encoded), piece);
  meter_.Measure(what, {.bytes = static_cast<double>(piece)},
                 {.run =
                      [&] {
                        meter_.kernels().DecodeRows(ring.Next(), format,
                                                    {rows.data(), kNumRows, preset_.hidden});
                      },
                  .run_peer = nullptr});
}

GateParams GateOf(const KernelPreset& preset, const std::vector<float>& bias) {
  GateParams params;
  params.num_experts = preset.num_experts;
  params.num_groups = preset.num_groups;
  params.num_kept_groups = preset.num_kept_groups;
  params.topk = preset.num_experts_per_token;
  params.normalize = true;
  params.bias = bias.data();
  return params;
}

}  // namespace

absl::Status MeasureRowKernels(const KernelPreset& preset, KernelMeter& meter) {
  Kernels& kernels = meter.kernels();
  RowCases cases(preset, meter);
  const int hidden = preset.hidden;
  const size_t num_hidden = static_cast<size_t>(kNumRows) * hidden;
  const std::string shape = absl::StrCat(hidden);

  const std::vector<float> norm = Noise(hidden, /*seed=*/2);
  cases.Measure({"rms_norm", "f32", kNumRows, shape}, kNumRows, hidden, num_hidden,
                [&](ConstMatrix x, float* out) {
                  kernels.RmsNorm(x, norm.data(), kEps, {out, kNumRows, hidden});
                });

  const int topk = preset.num_experts_per_token;
  const std::vector<float> bias(preset.num_experts, 0.0f);
  const GateParams gate = GateOf(preset, bias);
  std::vector<int32_t> expert_ids(static_cast<size_t>(kNumRows) * topk);
  cases.Measure({"gate", "f32", kNumRows, absl::StrCat(topk, " of ", preset.num_experts)}, kNumRows,
                preset.num_experts, expert_ids.size(), [&](ConstMatrix logits, float* out) {
                  kernels.Gate(logits, gate, /*forced_ids=*/nullptr, expert_ids.data(), out);
                });

  const std::pair<RowFormat, std::string> kFormats[] = {{RowFormat::kBf16, "bf16"},
                                                        {RowFormat::kFp8, "fp8"}};
  for (const auto& [format, name] : kFormats) {
    cases.Measure({"encode_rows", name, kNumRows, shape}, kNumRows, hidden, num_hidden,
                  [&, format = format](ConstMatrix x, float* out) {
                    kernels.EncodeRows(x, format, reinterpret_cast<std::byte*>(out));
                  });
    cases.MeasureDecode(format, name);
  }

  const std::vector<float> weights = Noise(expert_ids.size(), /*seed=*/3);
  cases.Measure({"weighted_sum", "f32", kNumRows, absl::StrCat(topk, " x ", hidden)},
                static_cast<int64_t>(kNumRows) * topk, hidden, num_hidden,
                [&](ConstMatrix x, float* out) {
                  kernels.WeightedSum(x, weights.data(), topk, {out, kNumRows, hidden});
                });

  if (preset.vocab_size > 0) {
    const int vocab = preset.vocab_size;
    cases.Measure({"log_softmax", "f32", kNumLogitRows, absl::StrCat(vocab)}, kNumLogitRows, vocab,
                  static_cast<size_t>(kNumLogitRows) * vocab, [&](ConstMatrix x, float* out) {
                    kernels.LogSoftmax(x, {out, kNumLogitRows, vocab});
                  });
  }
  return absl::OkStatus();
}

}  // namespace orrery
