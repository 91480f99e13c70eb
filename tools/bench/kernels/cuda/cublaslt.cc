#include "tools/bench/kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

constexpr const char* kNames[] = {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13",
                                  "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.12"};
// What NVIDIA recommends for Hopper.
constexpr size_t kWorkspaceBytes = 32 << 20;
// Of every size of an fp8 product.
constexpr int kFp8Multiple = 16;

// The functions that we call, by name.
struct Functions {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetVersion) get_version;
  decltype(&cublasLtMatmulDescCreate) matmul_create;
  decltype(&cublasLtMatmulDescSetAttribute) matmul_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&cublasLtMatmul) matmul;
};

template <typename Function>
absl::Status Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cuBLASLt has no ", name));
}

absl::Status FindAll(void* library, Functions& functions) {
  RETURN_IF_ERROR(Find(library, "cublasLtCreate", functions.create));
  RETURN_IF_ERROR(Find(library, "cublasLtGetVersion", functions.get_version));
  RETURN_IF_ERROR(Find(library, "cublasLtMatmulDescCreate", functions.matmul_create));
  RETURN_IF_ERROR(Find(library, "cublasLtMatmulDescSetAttribute", functions.matmul_set));
  RETURN_IF_ERROR(Find(library, "cublasLtMatrixLayoutCreate", functions.layout_create));
  RETURN_IF_ERROR(Find(library, "cublasLtMatmulPreferenceCreate", functions.preference_create));
  RETURN_IF_ERROR(Find(library, "cublasLtMatmulPreferenceSetAttribute", functions.preference_set));
  RETURN_IF_ERROR(Find(library, "cublasLtMatmulAlgoGetHeuristic", functions.get_heuristic));
  return Find(library, "cublasLtMatmul", functions.matmul);
}

absl::Status CublasStatus(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message = absl::StrCat(call, ": cuBLAS status ", static_cast<int>(status));
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? absl::UnimplementedError(message)
                                               : absl::InternalError(message);
}

// rows [num_rows, num_inputs] * weight^T, row major, as the library's column major: weight^T is transposed, then
// multiplied with rows as they lie, and the result is [num_outputs, num_rows] by columns.
class Product : public PeerProduct {
 public:
  Product(const Functions* functions, cublasLtHandle_t handle, CudaStream* stream)
      : functions_(*functions), handle_(handle), stream_(*stream) {}

  absl::Status Open(const Shape& shape, Device& device) {
    ASSIGN_OR_RETURN(workspace_, device.Allocate(kWorkspaceBytes, MemoryKind::kDevice));
    RETURN_IF_ERROR(DescribeOperation());
    RETURN_IF_ERROR(DescribeMatrices(shape));
    RETURN_IF_ERROR(ChooseAlgorithm());
    return MakeOperands(shape, device);
  }

  absl::Status Run() override {
    stream_.MakeCurrent();
    const float one = 1.0f, zero = 0.0f;
    const std::byte* const weight = weights_.as<std::byte>() + next_ * weight_bytes_;
    next_ = (next_ + 1) % num_copies_;
    return CublasStatus(
        functions_.matmul(handle_, matmul_, &one, weight, weight_layout_, rows_.data(),
                          rows_layout_, &zero, result_.data(), result_layout_, result_.data(),
                          result_layout_, &algorithm_, workspace_.data(), kWorkspaceBytes,
                          stream_.handle()),
        "cublasLtMatmul");
  }

 private:
  absl::Status DescribeOperation() {
    RETURN_IF_ERROR(CublasStatus(functions_.matmul_create(&matmul_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                                 "cublasLtMatmulDescCreate"));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    return CublasStatus(functions_.matmul_set(matmul_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                              sizeof(transposed)),
                        "cublasLtMatmulDescSetAttribute");
  }

  absl::Status DescribeMatrices(const Shape& shape) {
    const bool fp8 = shape.operands == Operands::kFp8;
    const cudaDataType_t type = fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    const auto padded = [fp8](int size) {
      return fp8 ? (size + kFp8Multiple - 1) / kFp8Multiple * kFp8Multiple : size;
    };
    const int num_inputs = padded(shape.num_inputs);
    const int num_outputs = padded(shape.num_outputs);
    const int num_rows = padded(shape.num_rows);
    RETURN_IF_ERROR(Layout(type, num_inputs, num_outputs, weight_layout_));
    RETURN_IF_ERROR(Layout(type, num_inputs, num_rows, rows_layout_));
    RETURN_IF_ERROR(Layout(CUDA_R_16BF, num_outputs, num_rows, result_layout_));
    num_weights_ = static_cast<size_t>(num_outputs) * num_inputs;
    num_row_values_ = static_cast<size_t>(num_rows) * num_inputs;
    num_results_ = static_cast<size_t>(num_rows) * num_outputs;
    return absl::OkStatus();
  }
  absl::Status Layout(cudaDataType_t type, int num_rows, int num_cols,
                      cublasLtMatrixLayout_t& layout) {
    return CublasStatus(functions_.layout_create(&layout, type, num_rows, num_cols, num_rows),
                        "cublasLtMatrixLayoutCreate");
  }

  absl::Status ChooseAlgorithm() {
    cublasLtMatmulPreference_t preference = nullptr;
    RETURN_IF_ERROR(
        CublasStatus(functions_.preference_create(&preference), "cublasLtMatmulPreferenceCreate"));
    RETURN_IF_ERROR(
        CublasStatus(functions_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &kWorkspaceBytes, sizeof(kWorkspaceBytes)),
                     "cublasLtMatmulPreferenceSetAttribute"));
    cublasLtMatmulHeuristicResult_t found = {};
    int num_found = 0;
    RETURN_IF_ERROR(
        CublasStatus(functions_.get_heuristic(handle_, matmul_, weight_layout_, rows_layout_,
                                              result_layout_, result_layout_, preference,
                                              /*requestedAlgoCount=*/1, &found, &num_found),
                     "cublasLtMatmulAlgoGetHeuristic"));
    if (num_found == 0) return absl::UnimplementedError("cuBLASLt knows no algorithm");
    algorithm_ = found.algo;
    return absl::OkStatus();
  }

  absl::Status MakeOperands(const Shape& shape, Device& device) {
    const bool fp8 = shape.operands == Operands::kFp8;
    weight_bytes_ = num_weights_ * (fp8 ? 1 : sizeof(uint16_t));
    num_copies_ = shape.num_copies;
    ASSIGN_OR_RETURN(weights_, device.Allocate(weight_bytes_ * num_copies_, MemoryKind::kDevice));
    const auto upload = [&](size_t num, uint64_t seed, Buffer& to, size_t offset) {
      std::vector<uint16_t> bf16;
      std::vector<uint8_t> codes;
      if (fp8) {
        codes = Fp8Noise(num, seed);
      } else {
        bf16 = Bf16Noise(num, seed);
      }
      stream_.CopyToDevice(to.as<std::byte>() + offset,
                           fp8 ? static_cast<const void*>(codes.data()) : bf16.data(),
                           fp8 ? codes.size() : bf16.size() * sizeof(uint16_t));
      return stream_.Synchronize();
    };
    RETURN_IF_ERROR(upload(num_weights_, /*seed=*/3, weights_, 0));
    for (size_t copy = 1; copy < num_copies_; ++copy) {
      stream_.CopyOnDevice(weights_.as<std::byte>() + copy * weight_bytes_, weights_.data(),
                           weight_bytes_);
    }
    ASSIGN_OR_RETURN(rows_, device.Allocate(num_row_values_ * (fp8 ? 1 : sizeof(uint16_t)),
                                            MemoryKind::kDevice));
    RETURN_IF_ERROR(upload(num_row_values_, /*seed=*/4, rows_, 0));
    ASSIGN_OR_RETURN(result_,
                     device.Allocate(num_results_ * sizeof(uint16_t), MemoryKind::kDevice));
    return absl::OkStatus();
  }

  const Functions& functions_;
  cublasLtHandle_t handle_;
  CudaStream& stream_;
  // Some hundred bytes each, which live as long as the process: a benchmark makes some dozens.
  cublasLtMatmulDesc_t matmul_ = nullptr;
  cublasLtMatrixLayout_t weight_layout_ = nullptr, rows_layout_ = nullptr, result_layout_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_ = {};
  size_t num_weights_ = 0, num_row_values_ = 0, num_results_ = 0;
  size_t weight_bytes_ = 0;
  size_t num_copies_ = 1, next_ = 0;
  Buffer workspace_, weights_, rows_, result_;
};

class CublasLt : public GemmLibrary {
 public:
  absl::Status Open(void* library) {
    RETURN_IF_ERROR(FindAll(library, functions_));
    return CublasStatus(functions_.create(&handle_), "cublasLtCreate");
  }

  std::string name() const override { return "cuBLASLt"; }
  std::string version() const override {
    const size_t version = functions_.get_version();  // 130100: 13.1.0
    return absl::StrCat("cuBLASLt ", version / 10000, ".", version / 100 % 100, ".", version % 100);
  }
  absl::StatusOr<std::unique_ptr<PeerProduct>> Make(const PeerProduct::Shape& shape, Device& device,
                                                    CudaStream& stream) override {
    auto product = std::make_unique<Product>(&functions_, handle_, &stream);
    RETURN_IF_ERROR(product->Open(shape, device));
    return product;
  }

 private:
  Functions functions_ = {};
  cublasLtHandle_t handle_ = nullptr;  // as long as the process, like the library
};

}  // namespace

absl::StatusOr<std::unique_ptr<GemmLibrary>> OpenCublasLt() {
  void* library = nullptr;
  std::string error;
  for (const char* name : kNames) {
    library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
    if (error.empty()) error = dlerror();
  }
  if (library == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cuBLASLt cannot be loaded (", absl::StrJoin(kNames, ", "), "): ", error));
  }
  auto cublaslt = std::make_unique<CublasLt>();
  RETURN_IF_ERROR(cublaslt->Open(library));
  return cublaslt;
}

}  // namespace orrery
