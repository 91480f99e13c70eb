#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench/kernels/cases.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

struct Projection {
  std::string name;
  DType dtype = DType::kBf16;
  int num_inputs = 0;
  int num_outputs = 0;
};

std::vector<Projection> ProjectionsOf(const KernelPreset& preset) {
  const DType dtype = preset.projections;
  std::vector<Projection> projections = {
      {"q_a", dtype, preset.hidden, preset.q_lora_rank},
      {"q_b", dtype, preset.q_lora_rank, preset.num_heads * (preset.nope_dim + preset.rope_dim)},
      {"kv_a", dtype, preset.hidden, preset.kv_lora_rank + preset.rope_dim},
      {"o", dtype, preset.num_heads * preset.value_dim, preset.hidden},
  };
  // Checkpoints keep the head in bf16.
  if (preset.vocab_size > 0) {
    projections.push_back({"head", DType::kBf16, preset.hidden, preset.vocab_size});
  }
  return projections;
}

using Weights = std::vector<std::unique_ptr<Weight>>;

absl::StatusOr<Weights> MakeWeights(const Projection& projection, const KernelMeter& meter) {
  const SyntheticWeight noise({.dtype = projection.dtype,
                               .num_outputs = projection.num_outputs,
                               .num_inputs = projection.num_inputs},
                              /*seed=*/1);
  Weights weights;
  do {
    ASSIGN_OR_RETURN(weights.emplace_back(),
                     meter.kernels().MakeWeight(noise.source(), ProductFormat::kBf16));
  } while (static_cast<int>(weights.size()) < meter.NumCopies(weights[0]->num_bytes()));
  std::vector<std::unique_ptr<Weight>*> all;
  for (std::unique_ptr<Weight>& weight : weights) all.push_back(&weight);
  RETURN_IF_ERROR(LayTogether(meter.kernels(), all));
  return weights;
}

absl::Status MeasureRows(const Projection& projection, const KernelCase& what,
                         const Weights& weights, KernelMeter& meter) {
  const int num_rows = what.num_rows;
  ASSIGN_OR_RETURN(const Buffer x,
                   meter.Upload(Noise(static_cast<size_t>(num_rows) * projection.num_inputs,
                                      /*seed=*/5)));
  ASSIGN_OR_RETURN(const Buffer out, meter.Allocate(static_cast<size_t>(num_rows) *
                                                    projection.num_outputs * sizeof(float)));
  KernelMeter::Subject subject = {.operands = OperandsOf(projection.dtype)};
  ASSIGN_OR_RETURN(const std::unique_ptr<PeerProduct> peer,
                   meter.MakePeer({.num_rows = num_rows,
                                   .num_inputs = projection.num_inputs,
                                   .num_outputs = projection.num_outputs,
                                   .operands = subject.operands}));
  size_t next = 0;
  subject.run = [&] {
    const Weight& weight = *weights[next];
    next = (next + 1) % weights.size();
    meter.kernels().Matmul({x.as<float>(), num_rows, projection.num_inputs}, weight,
                           /*bias=*/nullptr, {out.as<float>(), num_rows, projection.num_outputs});
  };
  if (peer != nullptr) subject.run_peer = [&] { return peer->Run(); };
  return meter.Measure(what,
                       {.bytes = static_cast<double>(weights[0]->num_bytes()),
                        .flops = 2.0 * projection.num_inputs * projection.num_outputs * num_rows},
                       subject);
}

}  // namespace

absl::Status MeasureProjections(const KernelPreset& preset, KernelMeter& meter) {
  for (const Projection& projection : ProjectionsOf(preset)) {
    Weights weights;
    for (const int num_rows : preset.projection_rows) {
      const KernelCase what = {
          .operation = absl::StrCat("matmul_", projection.name),
          .format = FormatName(projection.dtype),
          .num_rows = num_rows,
          .shape = absl::StrCat(projection.num_inputs, " > ", projection.num_outputs)};
      if (!meter.Wants(what)) continue;
      if (weights.empty()) {
        ASSIGN_OR_RETURN(weights, MakeWeights(projection, meter));
      }
      RETURN_IF_ERROR(MeasureRows(projection, what, weights, meter));
    }
  }
  return absl::OkStatus();
}

}  // namespace orrery
