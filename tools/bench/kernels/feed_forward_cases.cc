#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/cases.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

// Of all experts of a call together, about.
constexpr int kRowsPerCall = 64;

struct Expert {
  std::unique_ptr<Weight> gate, up, down;
  size_t num_bytes() const { return gate->num_bytes() + up->num_bytes() + down->num_bytes(); }
};

// As many as the working set holds, all alike.
absl::StatusOr<std::vector<Expert>> MakeExperts(const KernelPreset& preset, DType dtype,
                                                const KernelMeter& meter) {
  const SyntheticWeight wide(
      {.dtype = dtype, .num_outputs = preset.expert_width, .num_inputs = preset.hidden},
      /*seed=*/1);
  const SyntheticWeight narrow(
      {.dtype = dtype, .num_outputs = preset.hidden, .num_inputs = preset.expert_width},
      /*seed=*/2);
  std::vector<Expert> experts;
  do {
    Expert& expert = experts.emplace_back();
    Kernels& kernels = meter.kernels();
    ASSIGN_OR_RETURN(expert.gate, kernels.MakeWeight(wide.source(), ProductFormat::kBf16));
    ASSIGN_OR_RETURN(expert.up, kernels.MakeWeight(wide.source(), ProductFormat::kBf16));
    ASSIGN_OR_RETURN(expert.down, kernels.MakeWeight(narrow.source(), ProductFormat::kBf16));
  } while (static_cast<int>(experts.size()) < meter.NumCopies(experts[0].num_bytes()));
  return experts;
}

// Three products one after another. There is nothing between them: what oneDNN would take for SiLU, and for rounding
// its result for `down`, is not counted.
struct Peer {
  std::unique_ptr<OneDnnMatmul> gate, up, down;
  void Run() {
    gate->Run();
    up->Run();
    down->Run();
  }
};

absl::StatusOr<Peer> MakePeer(const KernelPreset& preset, int num_rows, KernelMeter& meter) {
  const OneDnnMatmul::Options wide = {
      .num_rows = num_rows, .num_inputs = preset.hidden, .num_outputs = preset.expert_width};
  const OneDnnMatmul::Options narrow = {
      .num_rows = num_rows, .num_inputs = preset.expert_width, .num_outputs = preset.hidden};
  Peer peer;
  ASSIGN_OR_RETURN(peer.gate, meter.MakePeer(wide));
  ASSIGN_OR_RETURN(peer.up, meter.MakePeer(wide));
  ASSIGN_OR_RETURN(peer.down, meter.MakePeer(narrow));
  return peer;
}

// Experts of one call. A shard computes those that have rows together, and one expert with a few rows is too little
// to be shared by threads.
int NumExpertsPerCall(const KernelPreset& preset, int num_rows) {
  return std::clamp(kRowsPerCall / num_rows, 1, preset.num_experts_per_token);
}

absl::Status MeasureRows(const KernelPreset& preset, const KernelCase& what,
                         const std::vector<Expert>& experts, KernelMeter& meter) {
  const int num_rows = what.num_rows;
  const int num_experts = NumExpertsPerCall(preset, num_rows);
  const std::vector<float> x = Noise(static_cast<size_t>(num_rows) * preset.hidden, /*seed=*/5);
  std::vector<float> out(x.size() * num_experts);
  ASSIGN_OR_RETURN(Peer peer, MakePeer(preset, num_rows, meter));
  std::vector<FeedForwardArgs> call(num_experts);
  size_t next = 0;
  KernelMeter::Subject subject;
  subject.run = [&] {
    for (int i = 0; i < num_experts; ++i) {
      const Expert& expert = experts[next];
      next = (next + 1) % experts.size();
      call[i] = {.x = {x.data(), num_rows, preset.hidden},
                 .gate = expert.gate.get(),
                 .up = expert.up.get(),
                 .down = expert.down.get(),
                 .out = {out.data() + i * x.size(), num_rows, preset.hidden}};
    }
    meter.kernels().FeedForward(call);
  };
  subject.run_peer = [&] {
    for (int i = 0; i < num_experts; ++i) peer.Run();
  };
  const double num_weights = 3.0 * preset.hidden * preset.expert_width;
  meter.Measure(what,
                {.bytes = 1.0 * num_experts * experts[0].num_bytes(),
                 .flops = 2.0 * num_experts * num_weights * num_rows},
                subject);
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureFeedForward(const KernelPreset& preset, KernelMeter& meter) {
  for (const DType dtype : {DType::kBf16, DType::kFp8E4m3}) {
    std::vector<Expert> experts;
    for (const int num_rows : preset.expert_rows) {
      const KernelCase what = {.operation = "feed_forward",
                               .format = FormatName(dtype),
                               .num_rows = num_rows,
                               .shape = absl::StrCat(NumExpertsPerCall(preset, num_rows), " x ",
                                                     preset.hidden, " > ", preset.expert_width)};
      if (!meter.Wants(what)) continue;
      if (experts.empty()) {
        ASSIGN_OR_RETURN(experts, MakeExperts(preset, dtype, meter));
      }
      RETURN_IF_ERROR(MeasureRows(preset, what, experts, meter));
    }
  }
  return absl::OkStatus();
}

}  // namespace orrery
