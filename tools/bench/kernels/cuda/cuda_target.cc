#include "tools/bench/kernels/cuda/cuda_target.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_stream.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

// Of one measurement: what is queued must be remembered by the driver.
constexpr int kMaxCalls = 10'000;
constexpr double kLeastSeconds = 1e-9;
// Takes some 100 us to read on a small GPU: longer than a launch.
constexpr int64_t kLeastWorkingSet = 64 << 20;

std::vector<Definition> CudaDefinitions() {
  return {
      {"w8a8",
       "fp8 weights whose products take fp8 activations too (ffn_products: PRODUCT_FORMAT_FP8); "
       "those of fp8 take bf16"},
      {"cold", "calls go round the working set, three times the L2 unless told otherwise"},
      {"GB/s",
       "bytes over the median time: packed weights with scales, or the cache, read once; of rows "
       "what is read and what is written, as many as go past the L2"},
      {"memory ceiling",
       "a copy within the GPU's memory: every byte counts as read and as written"},
      {"compute ceiling",
       "a large square product of the GEMM library, of fp8 where weights are fp8 (of bf16 on a GPU "
       "without fp8), else of bf16"},
      {"peer",
       "the GEMM library, with such operands, just as cold, results bf16; its rows come in its "
       "format (ours as f32), and of fp8 in multiples of 16, more where there are less"}};
}

// Two events: the time of what is queued between them.
class Stopwatch {
 public:
  explicit Stopwatch(CudaStream* stream) : stream_(*stream) {
    stream_.MakeCurrent();
    for (cudaEvent_t& event : events_) {
      stream_.Keep(cudaEventCreateWithFlags(&event, /*flags=*/0), "cudaEventCreateWithFlags");
    }
  }
  ~Stopwatch() {
    for (const cudaEvent_t event : events_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  absl::StatusOr<double> SecondsOf(const std::function<void()>& run, int num_calls) {
    Mark(0);
    for (int i = 0; i < num_calls; ++i) run();
    Mark(1);
    RETURN_IF_ERROR(stream_.Synchronize());
    float milliseconds = 0.0f;
    RETURN_IF_ERROR(CudaStatus(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]),
                               "cudaEventElapsedTime"));
    return std::max(milliseconds * 1e-3, kLeastSeconds);
  }

 private:
  void Mark(int index) {
    stream_.MakeCurrent();
    stream_.Keep(cudaEventRecord(events_[index], stream_.handle()), "cudaEventRecord");
  }
  CudaStream& stream_;
  cudaEvent_t events_[2] = {};
};

class CudaTarget : public BenchTarget {
 public:
  explicit CudaTarget(CudaTargetOptions options) : options_(std::move(options)) {}

  absl::Status Open() {
    ASSIGN_OR_RETURN(device_, MakeCudaDevice(options_.device_index));
    stream_ = device_->MakeStream();
    ASSIGN_OR_RETURN(kernels_, MakeCudaKernels(stream_.get()));
    watch_ = std::make_unique<Stopwatch>(&cuda_stream());
    RETURN_IF_ERROR(ReadFacts());
    ASSIGN_OR_RETURN(copy_from_, device_->Allocate(options_.copy_bytes, MemoryKind::kDevice));
    ASSIGN_OR_RETURN(copy_to_, device_->Allocate(options_.copy_bytes, MemoryKind::kDevice));
    return OpenGemms();
  }

  const TargetFacts& facts() const override { return facts_; }
  std::string note() const override { return note_; }
  Kernels& kernels() override { return *kernels_; }
  Device& device() override { return *device_; }
  Stream& stream() override { return *stream_; }

  absl::StatusOr<double> SecondsPerCall(const std::function<void()>& run,
                                        absl::Duration enough) override {
    ASSIGN_OR_RETURN(const double first, watch_->SecondsOf(run, /*num_calls=*/1));
    const double num_calls = std::ceil(absl::ToDoubleSeconds(enough) / first);
    if (num_calls < 2.0) return first;
    const int num = static_cast<int>(std::min<double>(num_calls, kMaxCalls));
    ASSIGN_OR_RETURN(const double all, watch_->SecondsOf(run, num));
    return all / num;
  }

  absl::StatusOr<Ceilings> MeasureCeilings(Operands operands, bool with_compute,
                                           absl::Duration enough) override {
    Ceilings measured;
    ASSIGN_OR_RETURN(measured.bytes_per_s, CopyBytesPerSecond(enough));
    if (with_compute) {
      ASSIGN_OR_RETURN(measured.flops_per_s, GemmFlopsPerSecond(operands, enough));
    }
    return measured;
  }

  absl::StatusOr<std::vector<NamedCeilings>> SampleCeilings() override {
    std::vector<NamedCeilings> all = {{.name = "bf16"}, {.name = "fp8"}};
    for (const Operands operands : {Operands::kBf16, Operands::kFp8}) {
      ASSIGN_OR_RETURN(all[static_cast<int>(operands)].ceilings,
                       MeasureCeilings(operands, /*with_compute=*/true, absl::ZeroDuration()));
    }
    return all;
  }

  absl::StatusOr<std::unique_ptr<PeerProduct>> MakePeer(const PeerProduct::Shape& shape) override {
    if (!options_.gemms.ok()) return nullptr;
    PeerProduct::Shape possible = shape;
    if (fp8_gemm_ == nullptr) possible.operands = Operands::kBf16;
    return (*options_.gemms)->Make(possible, *device_, cuda_stream());
  }

 private:
  CudaStream& cuda_stream() { return static_cast<CudaStream&>(*stream_); }

  absl::Status ReadFacts() {
    cudaDeviceProp properties;
    RETURN_IF_ERROR(CudaStatus(cudaGetDeviceProperties(&properties, options_.device_index),
                               "cudaGetDeviceProperties"));
    facts_.device =
        absl::StrFormat("%s, %d multiprocessors, L2 %.0f MiB, memory %.0f GiB", device_->name(),
                        properties.multiProcessorCount, properties.l2CacheSize / 0x1p20,
                        properties.totalGlobalMem / 0x1p30);
    facts_.cache_bytes = properties.l2CacheSize;
    facts_.working_set_bytes = options_.working_set_bytes > 0
                                   ? options_.working_set_bytes
                                   : std::max(3 * facts_.cache_bytes, kLeastWorkingSet);
    facts_.memory_ceiling = "copy";
    facts_.definitions = CudaDefinitions();
    return absl::OkStatus();
  }

  absl::Status OpenGemms() {
    if (!options_.gemms.ok()) {
      facts_.compute_ceiling = "GEMM";
      note_ = absl::StrCat("SKIPPED, the compute ceiling is not known and binds nothing: ",
                           options_.gemms.status().message());
      return absl::OkStatus();
    }
    GemmLibrary& gemms = **options_.gemms;
    facts_.compute_ceiling = absl::StrCat(gemms.name(), " GEMM");
    facts_.peer = gemms.name();
    facts_.peer_version = gemms.version();
    const int size = options_.gemm_size;
    PeerProduct::Shape shape = {.num_rows = size, .num_inputs = size, .num_outputs = size};
    ASSIGN_OR_RETURN(bf16_gemm_, gemms.Make(shape, *device_, cuda_stream()));
    shape.operands = Operands::kFp8;
    absl::StatusOr<std::unique_ptr<PeerProduct>> fp8_gemm =
        gemms.Make(shape, *device_, cuda_stream());
    if (fp8_gemm.ok()) {
      fp8_gemm_ = *std::move(fp8_gemm);
    } else if (absl::IsUnimplemented(fp8_gemm.status())) {
      note_ = absl::StrCat("the ceiling and the peer of fp8 are those of bf16: ",
                           fp8_gemm.status().message());
    } else {
      return fp8_gemm.status();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<double> CopyBytesPerSecond(absl::Duration enough) {
    const auto copy = [this] {
      stream_->CopyOnDevice(copy_to_.data(), copy_from_.data(), options_.copy_bytes);
    };
    ASSIGN_OR_RETURN(const double seconds, SecondsPerCall(copy, enough));
    return 2.0 * options_.copy_bytes / seconds;
  }

  absl::StatusOr<double> GemmFlopsPerSecond(Operands operands, absl::Duration enough) {
    PeerProduct* const gemm =
        operands == Operands::kFp8 && fp8_gemm_ != nullptr ? fp8_gemm_.get() : bf16_gemm_.get();
    if (gemm == nullptr) return 0.0;
    absl::Status status;
    const auto run = [&] { status.Update(gemm->Run()); };
    ASSIGN_OR_RETURN(const double seconds, SecondsPerCall(run, enough));
    RETURN_IF_ERROR(status);
    return 2.0 * std::pow(options_.gemm_size, 3) / seconds;
  }

  CudaTargetOptions options_;
  TargetFacts facts_;
  std::string note_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Stopwatch> watch_;
  Buffer copy_from_, copy_to_;
  std::unique_ptr<PeerProduct> bf16_gemm_, fp8_gemm_;  // null: there is none
};

}  // namespace

absl::StatusOr<std::unique_ptr<BenchTarget>> MakeCudaTarget(CudaTargetOptions options) {
  auto target = std::make_unique<CudaTarget>(std::move(options));
  RETURN_IF_ERROR(target->Open());
  return target;
}

}  // namespace orrery
