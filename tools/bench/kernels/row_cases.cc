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

// Memory of the device that is gone through in pieces, round and round.
class Ring {
 public:
  Ring(Buffer memory, size_t piece_bytes) : memory_(std::move(memory)), piece_bytes_(piece_bytes) {}
  template <typename T>
  const T* Next() {
    if (next_ + piece_bytes_ > memory_.num_bytes()) next_ = 0;
    return reinterpret_cast<const T*>(memory_.as<std::byte>() +
                                      std::exchange(next_, next_ + piece_bytes_));
  }

 private:
  Buffer memory_;
  size_t piece_bytes_;
  size_t next_ = 0;
};

// What a row of an operation reads and writes.
struct RowBytes {
  size_t read = 0;
  size_t written = 0;
};

class RowCases {
 public:
  RowCases(const KernelPreset& preset, KernelMeter& meter) : preset_(preset), meter_(meter) {}

  // num_rows, or as many (a power of two) as take what one call reads and writes past the cache.
  int NumRows(int num_rows, const RowBytes& bytes) const {
    if (!preset_.rows_past_cache) return num_rows;
    const size_t enough = meter_.target().facts().working_set_bytes;
    size_t rows = 1;
    while (rows * (bytes.read + bytes.written) < enough) rows *= 2;
    return static_cast<int>(rows);
  }

  // run(rows, out): f32 rows [what.num_rows * rows_per_row, width], all of which it reads once.
  template <typename Run>
  absl::Status Measure(const KernelCase& what, const RowBytes& bytes, int width, const Run& run) {
    if (!meter_.Wants(what)) return absl::OkStatus();
    const size_t piece_bytes = what.num_rows * bytes.read;
    const size_t num_copies = meter_.NumCopies(static_cast<double>(piece_bytes));
    ASSIGN_OR_RETURN(Buffer memory, meter_.Upload(Noise(num_copies * piece_bytes / sizeof(float),
                                                        /*seed=*/1)));
    const int64_t num_read = static_cast<int64_t>(piece_bytes / sizeof(float)) / width;
    return MeasureRing(what, bytes, Ring(std::move(memory), piece_bytes),
                       [&](Ring& ring, Buffer& out) {
                         run(ConstMatrix(ring.Next<float>(), num_read, width), out);
                       });
  }

  absl::Status MeasureDecode(RowFormat format, const std::string& name);

 private:
  template <typename Run>
  absl::Status MeasureRing(const KernelCase& what, const RowBytes& bytes, Ring ring,
                           const Run& run) {
    ASSIGN_OR_RETURN(Buffer out, meter_.Allocate(what.num_rows * bytes.written));
    const size_t counted = bytes.read + (preset_.rows_past_cache ? bytes.written : 0);
    return meter_.Measure(what, {.bytes = static_cast<double>(what.num_rows * counted)},
                          {.run = [&] { run(ring, out); }, .run_peer = nullptr});
  }

  const KernelPreset& preset_;
  KernelMeter& meter_;
};

absl::Status RowCases::MeasureDecode(RowFormat format, const std::string& name) {
  const int hidden = preset_.hidden;
  const RowBytes bytes = {.read = EncodedRowBytes(format, hidden),
                          .written = hidden * sizeof(float)};
  const KernelCase what = {.operation = "decode_rows",
                           .format = name,
                           .num_rows = NumRows(kNumRows, bytes),
                           .shape = absl::StrCat(hidden)};
  if (!meter_.Wants(what)) return absl::OkStatus();
  const size_t piece_bytes = what.num_rows * bytes.read;
  ASSIGN_OR_RETURN(const Buffer rows,
                   meter_.Upload(Noise(static_cast<size_t>(what.num_rows) * hidden, /*seed=*/1)));
  ASSIGN_OR_RETURN(
      Buffer encoded,
      meter_.Allocate(piece_bytes * meter_.NumCopies(static_cast<double>(piece_bytes))));
  for (size_t at = 0; at < encoded.num_bytes(); at += piece_bytes) {
    meter_.kernels().EncodeRows({rows.as<float>(), what.num_rows, hidden}, format,
                                encoded.as<std::byte>() + at);
  }
  return MeasureRing(what, bytes, Ring(std::move(encoded), piece_bytes),
                     [&](Ring& ring, Buffer& out) {
                       meter_.kernels().DecodeRows(ring.Next<std::byte>(), format,
                                                   {out.as<float>(), what.num_rows, hidden});
                     });
}

GateParams GateOf(const KernelPreset& preset, const Buffer& bias) {
  GateParams params;
  params.num_experts = preset.num_experts;
  params.num_groups = preset.num_groups;
  params.num_kept_groups = preset.num_kept_groups;
  params.topk = preset.num_experts_per_token;
  params.normalize = true;
  params.bias = bias.as<float>();
  return params;
}

absl::Status MeasureGate(const KernelPreset& preset, KernelMeter& meter, RowCases& cases) {
  const int topk = preset.num_experts_per_token;
  const RowBytes bytes = {.read = preset.num_experts * sizeof(float),
                          .written = topk * (sizeof(int32_t) + sizeof(float))};
  const int num_rows = cases.NumRows(kNumRows, bytes);
  ASSIGN_OR_RETURN(const Buffer bias, meter.Allocate(preset.num_experts * sizeof(float)));
  const GateParams gate = GateOf(preset, bias);
  return cases.Measure(
      {"gate", "f32", num_rows, absl::StrCat(topk, " of ", preset.num_experts)}, bytes,
      preset.num_experts, [&](ConstMatrix logits, Buffer& out) {
        float* const weights = out.as<float>();
        auto* const expert_ids = reinterpret_cast<int32_t*>(weights + logits.num_rows * topk);
        meter.kernels().Gate(logits, gate, /*forced_ids=*/nullptr, expert_ids, weights);
      });
}

absl::Status MeasureWeightedSum(const KernelPreset& preset, KernelMeter& meter, RowCases& cases) {
  const int topk = preset.num_experts_per_token, hidden = preset.hidden;
  const RowBytes bytes = {.read = topk * hidden * sizeof(float), .written = hidden * sizeof(float)};
  const int num_rows = cases.NumRows(kNumRows, bytes);
  ASSIGN_OR_RETURN(const Buffer weights,
                   meter.Upload(Noise(static_cast<size_t>(num_rows) * topk, /*seed=*/3)));
  return cases.Measure({"weighted_sum", "f32", num_rows, absl::StrCat(topk, " x ", hidden)}, bytes,
                       hidden, [&](ConstMatrix x, Buffer& out) {
                         meter.kernels().WeightedSum(x, weights.as<float>(), topk,
                                                     {out.as<float>(), num_rows, hidden});
                       });
}

}  // namespace

absl::Status MeasureRowKernels(const KernelPreset& preset, KernelMeter& meter) {
  Kernels& kernels = meter.kernels();
  RowCases cases(preset, meter);
  const int hidden = preset.hidden;
  const size_t row_bytes = hidden * sizeof(float);
  const std::string shape = absl::StrCat(hidden);

  ASSIGN_OR_RETURN(const Buffer norm, meter.Upload(Noise(hidden, /*seed=*/2)));
  const RowBytes norm_bytes = {.read = row_bytes, .written = row_bytes};
  RETURN_IF_ERROR(cases.Measure(
      {"rms_norm", "f32", cases.NumRows(kNumRows, norm_bytes), shape}, norm_bytes, hidden,
      [&](ConstMatrix x, Buffer& out) {
        kernels.RmsNorm(x, norm.as<float>(), kEps, {out.as<float>(), x.num_rows, hidden});
      }));

  RETURN_IF_ERROR(MeasureGate(preset, meter, cases));

  const std::pair<RowFormat, std::string> kFormats[] = {{RowFormat::kBf16, "bf16"},
                                                        {RowFormat::kFp8, "fp8"}};
  for (const auto& [format, name] : kFormats) {
    const RowBytes bytes = {.read = row_bytes, .written = EncodedRowBytes(format, hidden)};
    RETURN_IF_ERROR(cases.Measure({"encode_rows", name, cases.NumRows(kNumRows, bytes), shape},
                                  bytes, hidden, [&, format = format](ConstMatrix x, Buffer& out) {
                                    kernels.EncodeRows(x, format, out.as<std::byte>());
                                  }));
    RETURN_IF_ERROR(cases.MeasureDecode(format, name));
  }

  RETURN_IF_ERROR(MeasureWeightedSum(preset, meter, cases));

  if (preset.vocab_size == 0) return absl::OkStatus();
  const int vocab = preset.vocab_size;
  const RowBytes bytes = {.read = vocab * sizeof(float), .written = vocab * sizeof(float)};
  return cases.Measure(
      {"log_softmax", "f32", cases.NumRows(kNumLogitRows, bytes), absl::StrCat(vocab)}, bytes,
      vocab, [&](ConstMatrix x, Buffer& out) {
        kernels.LogSoftmax(x, {out.as<float>(), x.num_rows, vocab});
      });
}

}  // namespace orrery
