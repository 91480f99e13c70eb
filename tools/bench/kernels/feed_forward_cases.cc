#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/cases.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

// Of all experts of a call together, about, where the preset does not say how many experts.
constexpr int kRowsPerCall = 64;

struct Format {
  DType dtype = DType::kBf16;
  WeightFormat held = WeightFormat::kStored;
  ProductFormat product = ProductFormat::kBf16;
  bool has_fp8_products() const { return product == ProductFormat::kFp8; }
  std::string name() const { return has_fp8_products() ? "w8a8" : FormatName(dtype, held); }
  Operands operands() const { return OperandsOf(dtype); }
};
constexpr Format kFormats[] = {
    {DType::kBf16},
    {DType::kFp8E4m3},
    {.dtype = DType::kFp8E4m3, .product = ProductFormat::kFp8},
    {DType::kBf16, WeightFormat::kInt8},
    {DType::kBf16, WeightFormat::kInt4},
};

struct Expert {
  std::unique_ptr<Weight> gate, up, down;
  size_t num_bytes() const { return gate->num_bytes() + up->num_bytes() + down->num_bytes(); }
};

// Experts of one call. A shard computes those that have rows together, and one expert with a few rows is too little
// to be shared by threads.
int NumExpertsPerCall(const KernelPreset& preset, int num_rows) {
  if (preset.experts_per_call > 0) return preset.experts_per_call;
  return std::clamp(kRowsPerCall / num_rows, 1, preset.num_experts_per_token);
}

// As many as the working set holds and as a call needs, all alike.
absl::StatusOr<std::vector<Expert>> MakeExperts(const KernelPreset& preset, const Format& format,
                                                const KernelMeter& meter) {
  const SyntheticWeight wide(
      {.dtype = format.dtype, .num_outputs = preset.expert_width, .num_inputs = preset.hidden},
      /*seed=*/1);
  const SyntheticWeight narrow(
      {.dtype = format.dtype, .num_outputs = preset.hidden, .num_inputs = preset.expert_width},
      /*seed=*/2);
  const auto make = [&](const SyntheticWeight& weight) {
    return meter.kernels().MakeWeight(weight.source(), format.product, format.held);
  };
  const int per_call = NumExpertsPerCall(preset, /*num_rows=*/1);
  std::vector<Expert> experts;
  do {
    Expert& expert = experts.emplace_back();
    ASSIGN_OR_RETURN(expert.gate, make(wide));
    ASSIGN_OR_RETURN(expert.up, make(wide));
    ASSIGN_OR_RETURN(expert.down, make(narrow));
    RETURN_IF_ERROR(LayTogether(meter.kernels(), {&expert.gate, &expert.up, &expert.down}));
  } while (static_cast<int>(experts.size()) <
           std::max(per_call, meter.NumCopies(experts[0].num_bytes())));
  return experts;
}

// Three products one after another. There is nothing between them: what the peer would take for SiLU, and for rounding
// its result for `down`, is not counted.
struct Peer {
  std::unique_ptr<PeerProduct> gate, up, down;
  absl::Status Run() {
    RETURN_IF_ERROR(gate->Run());
    RETURN_IF_ERROR(up->Run());
    return down->Run();
  }
};

absl::StatusOr<Peer> MakePeer(const KernelPreset& preset, int num_rows, Operands operands,
                              const KernelMeter& meter) {
  const PeerProduct::Shape wide = {.num_rows = num_rows,
                                   .num_inputs = preset.hidden,
                                   .num_outputs = preset.expert_width,
                                   .operands = operands};
  PeerProduct::Shape narrow = wide;
  std::swap(narrow.num_inputs, narrow.num_outputs);
  Peer peer;
  ASSIGN_OR_RETURN(peer.gate, meter.MakePeer(wide));
  ASSIGN_OR_RETURN(peer.up, meter.MakePeer(wide));
  ASSIGN_OR_RETURN(peer.down, meter.MakePeer(narrow));
  return peer;
}

absl::Status MeasureRows(const KernelPreset& preset, const KernelCase& what, Operands operands,
                         const std::vector<Expert>& experts, KernelMeter& meter) {
  const int num_rows = what.num_rows;
  const int num_experts = NumExpertsPerCall(preset, num_rows);
  const size_t num_values = static_cast<size_t>(num_rows) * preset.hidden;
  ASSIGN_OR_RETURN(const Buffer x, meter.Upload(Noise(num_values, /*seed=*/5)));
  ASSIGN_OR_RETURN(const Buffer out, meter.Allocate(num_values * num_experts * sizeof(float)));
  ASSIGN_OR_RETURN(Peer peer, MakePeer(preset, num_rows, operands, meter));
  std::vector<FeedForwardArgs> call(num_experts);
  size_t next = 0;
  KernelMeter::Subject subject = {.operands = operands};
  subject.run = [&] {
    for (int i = 0; i < num_experts; ++i) {
      const Expert& expert = experts[next];
      next = (next + 1) % experts.size();
      call[i] = {.x = {x.as<float>(), num_rows, preset.hidden},
                 .gate = expert.gate.get(),
                 .up = expert.up.get(),
                 .down = expert.down.get(),
                 .out = {out.as<float>() + i * num_values, num_rows, preset.hidden}};
    }
    meter.kernels().FeedForward(call);
  };
  if (peer.gate != nullptr) {
    subject.run_peer = [&] {
      for (int i = 0; i < num_experts; ++i) RETURN_IF_ERROR(peer.Run());
      return absl::OkStatus();
    };
  }
  const double num_weights = 3.0 * preset.hidden * preset.expert_width;
  return meter.Measure(what,
                       {.bytes = 1.0 * num_experts * experts[0].num_bytes(),
                        .flops = 2.0 * num_experts * num_weights * num_rows},
                       subject);
}

}  // namespace

absl::Status MeasureFeedForward(const KernelPreset& preset, KernelMeter& meter) {
  for (const Format& format : kFormats) {
    if (format.has_fp8_products() && !preset.fp8_products) continue;
    std::vector<Expert> experts;
    for (const int num_rows : preset.expert_rows) {
      const KernelCase what = {.operation = "feed_forward",
                               .format = format.name(),
                               .num_rows = num_rows,
                               .shape = absl::StrCat(NumExpertsPerCall(preset, num_rows), " x ",
                                                     preset.hidden, " > ", preset.expert_width)};
      if (!meter.Wants(what)) continue;
      if (experts.empty()) {
        ASSIGN_OR_RETURN(experts, MakeExperts(preset, format, meter));
      }
      RETURN_IF_ERROR(MeasureRows(preset, what, format.operands(), experts, meter));
    }
  }
  return absl::OkStatus();
}

}  // namespace orrery
