// Products with weights: what one call is made of, whatever instructions multiply (matmul_mma.cu.cc,
// matmul_wgmma.cu.cc). A call collects its jobs, then rows become operands in one launch, then each kind of
// instruction has one launch for gates and ups, and one for all other products.

#include "base/check.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/tiled_weight.h"
#include "kernels/fp8_row_layout.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

DeviceWeight Own(const Weight& weight) {
  const auto* own = dynamic_cast<const TiledWeight*>(&weight);
  ORRERY_CHECK(own != nullptr) << "a weight of another implementation";
  return own->on_device();
}

int64_t PaddedRows(int64_t num_rows) {
  return (num_rows + kOperandRows - 1) / kOperandRows * kOperandRows;
}

int64_t ValueBytes(int64_t num_rows, int padded_cols, OperandForm form) {
  return PaddedRows(num_rows) * padded_cols * BytesOfValue(form);
}

int64_t OperandBytes(int64_t num_rows, int padded_cols, OperandForm form) {
  const int num_groups = HasScales(form) ? (padded_cols + kFp8GroupSize - 1) / kFp8GroupSize : 0;
  return ValueBytes(num_rows, padded_cols, form) +
         PaddedRows(num_rows) * num_groups * sizeof(float);
}

int64_t OperandBytes(int64_t num_rows, const DeviceWeight& weight) {
  return OperandBytes(num_rows, weight.padded_inputs(), weight.form);
}

// At the next free place, which moves on.
Operand Place(int64_t num_rows, int padded_cols, OperandForm form, std::byte*& at) {
  Operand operand;
  operand.values = at;
  if (HasScales(form)) {
    operand.scales = reinterpret_cast<float*>(at + ValueBytes(num_rows, padded_cols, form));
  }
  operand.form = form;
  operand.padded_cols = padded_cols;
  operand.padded_rows = PaddedRows(num_rows);
  at += OperandBytes(num_rows, padded_cols, form);
  return operand;
}

// What gate and up leave for down: where tiles are too narrow for a group of codes, the f32 of which the codes
// are made.
OperandForm FormOfInner(OperandForm down) {
  return down == OperandForm::kCodesAsBf16 ? OperandForm::kF32 : down;
}

bool HasFp8Products(const DeviceWeight& weight) { return HasScales(weight.form); }

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> CudaKernels::MakeWeight(const WeightSource& source,
                                                                ProductFormat format,
                                                                WeightFormat held) {
  return TiledWeight::Make(source, format, held, instructions_, stream_->device());
}

absl::StatusOr<std::unique_ptr<Weight>> CudaKernels::MapWeight(const WeightImage& image) {
  return TiledWeight::Map(image, instructions_, stream_->device());
}

Operand CudaKernels::AddOperand(ConstMatrix x, const DeviceWeight& weight) {
  const Operand to = Place(x.num_rows, weight.padded_inputs(), weight.form, next_operand_);
  operand_jobs_.push_back({0, x, to});
  return to;
}

void CudaKernels::AddMatmul(const MatmulJob& job) { JobsOf(job.weight).matmul.push_back(job); }

CudaKernels::ProductJobs& CudaKernels::JobsOf(const DeviceWeight& weight) {
  const bool is_swizzled = weight.format == CodeFormat::kFp8Swizzled;
  return product_jobs_[static_cast<int>(is_swizzled ? Instructions::kWgmma : Instructions::kMma)];
}

void CudaKernels::BeginJobs(size_t num_jobs, int64_t operand_bytes) {
  staging_.Reserve(num_jobs * (3 * sizeof(OperandJob) + sizeof(GateUpJob) + sizeof(MatmulJob)) +
                   6 * kStagingAlignment);
  next_operand_ = operands_.Get(operand_bytes);
  operand_jobs_.clear();
  for (ProductJobs& jobs : product_jobs_) {
    jobs.gate_up.clear();
    jobs.matmul.clear();
  }
}

template <typename Job>
void CudaKernels::LaunchProducts(const char* name, const ProductKernel<Job>& kernel,
                                 std::vector<Job>& jobs) {
  int64_t num_blocks = 0;
  for (Job& job : jobs) {
    job.first_block = num_blocks;
    num_blocks += kernel.num_blocks(job);
  }
  Launch(name, kernel.kernel, {num_blocks, kernel.num_threads, kernel.shared_bytes},
         staging_.Put(absl::MakeConstSpan(jobs)), static_cast<int>(jobs.size()));
}

void CudaKernels::GateUp() {
  LaunchProducts("GateUp", MmaProducts().gate_up, product_jobs_[0].gate_up);
  LaunchProducts("GateUp", WgmmaProducts().gate_up, product_jobs_[1].gate_up);
}

void CudaKernels::Multiply() {
  LaunchProducts("Matmul", MmaProducts().matmul, product_jobs_[0].matmul);
  LaunchProducts("Matmul", WgmmaProducts().matmul, product_jobs_[1].matmul);
}

void CudaKernels::Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) {
  CheckMatmul(x, weight, out);
  if (x.num_rows == 0) return;
  const DeviceWeight own = Own(weight);
  BeginJobs(1, OperandBytes(x.num_rows, own));
  AddMatmul({0, own, AddOperand(x, own), bias, out});
  MakeOperands();
  Multiply();
}

void CudaKernels::MatmulHeads(ConstMatrix x, int x_head_stride,
                              absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                              int out_head_stride) {
  CheckMatmulHeads(x, x_head_stride, weights, out, out_head_stride);
  if (x.num_rows == 0) return;
  int64_t operand_bytes = 0;
  for (const auto& weight : weights) operand_bytes += OperandBytes(x.num_rows, Own(*weight));
  BeginJobs(weights.size(), operand_bytes);
  for (size_t h = 0; h < weights.size(); ++h) {
    const DeviceWeight own = Own(*weights[h]);
    const ConstMatrix slice = x.Columns(h * x_head_stride, weights[h]->num_inputs());
    AddMatmul({0, own, AddOperand(slice, own), nullptr,
               out.Columns(h * out_head_stride, weights[h]->num_outputs())});
  }
  MakeOperands();
  Multiply();
}

void CudaKernels::FeedForward(absl::Span<const FeedForwardArgs> all) {
  int64_t operand_bytes = 0, inner_bytes = 0;
  for (const FeedForwardArgs& args : all) {
    CheckFeedForward(args.x, *args.gate, *args.up, *args.down, args.out);
    const int64_t num_rows = args.x.num_rows;
    const DeviceWeight gate = Own(*args.gate), up = Own(*args.up), down = Own(*args.down);
    ORRERY_CHECK(HasFp8Products(gate) == HasFp8Products(up) &&
                 HasFp8Products(up) == HasFp8Products(down))
        << "a feed-forward of which some products are fp8 and others are not";
    operand_bytes +=
        OperandBytes(num_rows, gate) + OperandBytes(num_rows, up) + OperandBytes(num_rows, down);
    inner_bytes += OperandBytes(num_rows, down.padded_inputs(), FormOfInner(down.form));
  }
  BeginJobs(all.size(), operand_bytes);
  std::byte* next_inner = inner_.Get(inner_bytes);
  for (const FeedForwardArgs& args : all) {
    const int64_t num_rows = args.x.num_rows;
    if (num_rows == 0) continue;
    const DeviceWeight gate = Own(*args.gate), up = Own(*args.up), down = Own(*args.down);
    const Operand of_gate = AddOperand(args.x, gate);
    // Gate and up see the same row, unless one of them is exact.
    const Operand of_up = gate.form == up.form ? of_gate : AddOperand(args.x, up);
    const Operand inner = Place(num_rows, down.padded_inputs(), FormOfInner(down.form), next_inner);
    JobsOf(gate).gate_up.push_back({0, gate, up, of_gate, of_up, num_rows, inner});
    Operand of_down = inner;
    if (inner.form != down.form) {
      of_down = Place(num_rows, down.padded_inputs(), down.form, next_operand_);
      const ConstMatrix values(reinterpret_cast<const float*>(inner.values), num_rows,
                               down.padded_inputs());
      inner_jobs_.push_back({0, values, of_down});
    }
    AddMatmul({0, down, of_down, nullptr, args.out});
  }
  MakeOperands();
  GateUp();
  operand_jobs_.swap(inner_jobs_);
  MakeOperands();
  Multiply();
}

}  // namespace orrery
