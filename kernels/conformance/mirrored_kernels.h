// Kernels of a device behind host memory, so that one suite serves all implementations: every call copies
// what it reads and writes to the device, computes there, waits, and copies back what it wrote.
//
//   MirroredKernels kernels(std::move(device), std::move(stream), std::move(kernels_of_device));
//   kernels.Add(y, x);                                  // x and y in host memory
//
// Places that overlap in host memory overlap in the same way on the device, and every address keeps its
// distance from a border of 64 bytes. What lies between the rows of a matrix travels with it, so that
// a write into the gaps is seen. It also is the conformance of the device's copies: see Device.
//
// Errors of the device end the process.
#ifndef ORRERY_KERNELS_CONFORMANCE_MIRRORED_KERNELS_H_
#define ORRERY_KERNELS_CONFORMANCE_MIRRORED_KERNELS_H_

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "device/device.h"
#include "kernels/kernels.h"

namespace orrery {

// Places in host memory and their copies on a device. Add all, Upload, then ask At.
class Mirror {
 public:
  Mirror(Device* device, Stream* stream) : device_(device), stream_(stream) {}

  void Add(const void* data, size_t num_bytes, bool is_written);
  void Add(const ConstMatrix& matrix) { AddMatrix(matrix, false); }
  void Add(const Matrix& matrix) { AddMatrix(matrix, true); }
  void Upload();
  template <typename T>
  T* At(T* data) const {
    return static_cast<T*>(const_cast<void*>(Find(data)));
  }
  template <typename T>
  MatrixView<T> At(const MatrixView<T>& matrix) const {
    return {At(matrix.data), matrix.num_rows, matrix.num_cols, matrix.stride};
  }
  // Waits, and copies back what was written. Then it is empty.
  void Download();

 private:
  struct Place {
    std::byte* begin;
    std::byte* end;
    size_t offset;  // in memory_
  };
  void AddMatrix(const ConstMatrix& matrix, bool is_written);
  const void* Find(const void* data) const;  // null: none

  Device* device_;
  Stream* stream_;
  Buffer memory_;
  std::vector<Place> places_;  // after Upload: apart from each other
  std::vector<Place> written_;
};

class MirroredKernels : public Kernels {
 public:
  MirroredKernels(std::unique_ptr<Device> device, std::unique_ptr<Stream> stream,
                  std::unique_ptr<Kernels> kernels)
      : device_(std::move(device)),
        stream_(std::move(stream)),
        kernels_(std::move(kernels)),
        mirror_(device_.get(), stream_.get()) {}

  std::string_view family() const override { return kernels_->family(); }
  std::string_view variant() const override { return kernels_->variant(); }
  absl::StatusOr<std::unique_ptr<Weight>> MakeWeight(const WeightSource& source,
                                                     ProductFormat format,
                                                     WeightFormat held) override {
    return kernels_->MakeWeight(source, format, held);
  }
  absl::StatusOr<std::unique_ptr<Weight>> MapWeight(const WeightImage& image) override {
    return kernels_->MapWeight(image);
  }
  absl::StatusOr<size_t> WeightBytes(const WeightSource& source, ProductFormat format,
                                     WeightFormat held) const override {
    return kernels_->WeightBytes(source, format, held);
  }
  void Embed(DType dtype, const void* table, absl::Span<const int32_t> ids, Matrix out) override;
  void RmsNorm(ConstMatrix x, const float* weight, float eps, Matrix out) override;
  void Matmul(ConstMatrix x, const Weight& weight, const float* bias, Matrix out) override;
  void MatmulHeads(ConstMatrix x, int x_head_stride,
                   absl::Span<const std::unique_ptr<Weight>> weights, Matrix out,
                   int out_head_stride) override;
  void Rope(Matrix x, int num_heads, int head_stride, int first_position, RopePairing pairing,
            const RopeTable& table) override;
  void AppendKv(ConstMatrix rows, const KvCacheView& cache, absl::Span<const int32_t> block_ids,
                int first_position) override;
  void Attend(absl::Span<const AttendArgs> all) override;
  void FeedForward(absl::Span<const FeedForwardArgs> all) override;
  void Add(ConstMatrix y, Matrix x) override;
  void Copy(ConstMatrix from, Matrix to) override;
  void Gate(ConstMatrix logits, const GateParams& params, const int32_t* forced_ids,
            int32_t* expert_ids, float* weights) override;
  void EncodeRows(ConstMatrix rows, RowFormat format, std::byte* encoded) override;
  void DecodeRows(const std::byte* encoded, RowFormat format, Matrix rows) override;
  void WeightedSum(ConstMatrix rows, const float* weights, int topk, Matrix out) override;
  void LogSoftmax(ConstMatrix logits, Matrix out) override;

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  Mirror mirror_;
};

}  // namespace orrery

#endif  // ORRERY_KERNELS_CONFORMANCE_MIRRORED_KERNELS_H_
