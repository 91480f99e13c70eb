#include "tools/bench/kernels/cpu/onednn_matmul.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/dtypes.h"
#include "tools/bench/kernels/machine/mapped_buffer.h"

namespace orrery {
namespace {

using Layout = dnnl::memory::format_tag;
using Number = dnnl::memory::data_type;

constexpr size_t kAlignment = 4096;

class OneDnnMatmulImpl : public OneDnnMatmul {
 public:
  OneDnnMatmulImpl(const Shape& shape, int num_threads)
      : engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        shape_(shape),
        num_threads_(num_threads) {}

  // `number`: bf16 or f32, of weights and rows. Throws dnnl::error.
  absl::Status Prepare(absl::Span<const uint16_t> weight, absl::Span<const uint16_t> rows,
                       Number number) {
    has_bf16_ = number == Number::bf16;
    omp_set_num_threads(num_threads_);
    const dnnl::memory::dims weight_dims = {shape_.num_inputs, shape_.num_outputs};
    const dnnl::memory::desc from({shape_.num_rows, shape_.num_inputs}, number, Layout::ab);
    const dnnl::memory::desc to({shape_.num_rows, shape_.num_outputs}, Number::f32, Layout::ab);
    const dnnl::memory::desc any(weight_dims, number, Layout::any);
    const dnnl::matmul::primitive_desc product(dnnl::matmul::desc(from, any, to), engine_);
    product_ = dnnl::matmul(product);
    rows_ = dnnl::memory(from, engine_);
    result_ = dnnl::memory(to, engine_);
    Fill(rows, rows_);

    // [num_outputs, num_inputs] row by row is the transpose of what oneDNN multiplies with.
    dnnl::memory plain({weight_dims, number, Layout::ba}, engine_);
    Fill(weight, plain);
    // In pages like those of the read ceiling: where its weights lie is no merit of a peer.
    const dnnl::memory::desc layout = product.weights_desc();
    const size_t stride = (layout.get_size() + kAlignment - 1) / kAlignment * kAlignment;
    ASSIGN_OR_RETURN(buffer_, MappedBuffer::Create(stride * shape_.num_copies));
    for (int i = 0; i < shape_.num_copies; ++i) {
      dnnl::memory& packed = weights_.emplace_back(layout, engine_, buffer_.data() + i * stride);
      dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    }
    stream_.wait();
    return absl::OkStatus();
  }

  absl::Status Run() override {
    omp_set_num_threads(num_threads_);
    product_.execute(
        stream_,
        {{DNNL_ARG_SRC, rows_}, {DNNL_ARG_WEIGHTS, weights_[next_]}, {DNNL_ARG_DST, result_}});
    stream_.wait();
    next_ = (next_ + 1) % weights_.size();
    return absl::OkStatus();
  }

  bool has_bf16() const override { return has_bf16_; }

  absl::Span<const float> result() const override {
    return {static_cast<const float*>(result_.get_data_handle()),
            static_cast<size_t>(shape_.num_rows) * shape_.num_outputs};
  }

 private:
  void Fill(absl::Span<const uint16_t> values, dnnl::memory& memory) const {
    if (has_bf16_) {
      std::memcpy(memory.get_data_handle(), values.data(), values.size() * sizeof(values[0]));
    } else {
      std::transform(values.begin(), values.end(), static_cast<float*>(memory.get_data_handle()),
                     Bf16ToF32);
    }
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  Shape shape_;
  int num_threads_;
  bool has_bf16_ = false;
  dnnl::matmul product_;
  dnnl::memory rows_, result_;
  MappedBuffer buffer_;  // under weights_
  std::vector<dnnl::memory> weights_;
  size_t next_ = 0;
};

absl::StatusOr<std::unique_ptr<OneDnnMatmul>> CreateOf(Number number,
                                                       const PeerProduct::Shape& shape,
                                                       int num_threads,
                                                       absl::Span<const uint16_t> weight,
                                                       absl::Span<const uint16_t> rows) {
  ORRERY_CHECK(weight.size() == static_cast<size_t>(shape.num_outputs) * shape.num_inputs);
  ORRERY_CHECK(rows.size() == static_cast<size_t>(shape.num_rows) * shape.num_inputs);
  try {
    auto matmul = std::make_unique<OneDnnMatmulImpl>(shape, num_threads);
    RETURN_IF_ERROR(matmul->Prepare(weight, rows, number));
    RETURN_IF_ERROR(matmul->Run());  // so that it cannot throw later
    return std::unique_ptr<OneDnnMatmul>(std::move(matmul));
  } catch (const dnnl::error& error) {
    const std::string message = absl::StrCat("oneDNN: ", error.what());
    if (error.status == dnnl_unimplemented) return absl::UnimplementedError(message);
    if (error.status == dnnl_out_of_memory) return absl::ResourceExhaustedError(message);
    return absl::InternalError(message);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<OneDnnMatmul>> OneDnnMatmul::Create(
    const Shape& shape, int num_threads, absl::Span<const uint16_t> weight,
    absl::Span<const uint16_t> rows) {
  absl::StatusOr<std::unique_ptr<OneDnnMatmul>> matmul =
      CreateOf(Number::bf16, shape, num_threads, weight, rows);
  if (!absl::IsUnimplemented(matmul.status())) return matmul;
  return CreateOf(Number::f32, shape, num_threads, weight, rows);
}

std::string OneDnnVersion() {
  const dnnl_version_t* const version = dnnl_version();
  return absl::StrCat("oneDNN ", version->major, ".", version->minor, ".", version->patch);
}

}  // namespace orrery
