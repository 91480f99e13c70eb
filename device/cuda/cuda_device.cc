#include "device/cuda/cuda_device.h"

#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "device/cuda/arena.h"
#include "device/cuda/cuda_stream.h"

namespace orrery {
namespace {

// One allocation, and who has which part of it. Pieces keep it.
struct Reservation {
  Reservation(void* data, size_t num_bytes)
      : data(static_cast<std::byte*>(data)), arena(num_bytes) {}
  ~Reservation() { cudaFree(data); }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  std::byte* data;
  Arena arena;
};

class CudaDevice : public Device {
 public:
  CudaDevice(int index, std::string name) : index_(index), name_(std::move(name)) {}

  std::string name() const override { return name_; }

  absl::StatusOr<Buffer> Allocate(size_t num_bytes, MemoryKind kind) override {
    RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), "cudaSetDevice"));
    ASSIGN_OR_RETURN(Buffer buffer, kind == MemoryKind::kPinnedHost ? TakePinned(num_bytes)
                                    : reservation_ != nullptr       ? TakeReserved(num_bytes)
                                                                    : Take(num_bytes));
    // Whoever had a piece of the reservation before may have left work that uses it. Pinned memory has a
    // device address as well, so one call clears all kinds. The streams made here do not wait for the
    // default stream: finish before the buffer is seen.
    RETURN_IF_ERROR(CudaStatus(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
    if (num_bytes == 0) return buffer;
    RETURN_IF_ERROR(CudaStatus(cudaMemset(buffer.data(), 0, num_bytes), "cudaMemset"));
    RETURN_IF_ERROR(CudaStatus(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
    return buffer;
  }

  absl::Status Reserve(size_t num_bytes) override {
    ORRERY_CHECK(reservation_ == nullptr) << name_ << " has reserved its memory already";
    RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), "cudaSetDevice"));
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, ReservedBytes(num_bytes));
    if (error != cudaSuccess) {
      cudaGetLastError();  // an allocation that failed is not a lost context: forget it
      ASSIGN_OR_RETURN(const MemoryBytes memory, this->memory());
      return absl::ResourceExhaustedError(
          absl::StrCat(name_, ": cannot allocate ", num_bytes, " bytes at once: ", memory.free,
                       " of ", memory.total, " are free (", cudaGetErrorString(error), ")"));
    }
    reservation_ = std::make_shared<Reservation>(data, ReservedBytes(num_bytes));
    return absl::OkStatus();
  }

  absl::StatusOr<MemoryBytes> memory() const override {
    RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), "cudaSetDevice"));
    MemoryBytes memory;
    RETURN_IF_ERROR(CudaStatus(cudaMemGetInfo(&memory.free, &memory.total), "cudaMemGetInfo"));
    return memory;
  }

  std::unique_ptr<Stream> MakeStream() override {
    return std::make_unique<CudaStream>(this, index_);
  }

 private:
  absl::Status CannotAllocate(size_t num_bytes, const char* kind, const std::string& why) const {
    return absl::ResourceExhaustedError(
        absl::StrCat(name_, ": cannot allocate ", num_bytes, kind, " bytes: ", why));
  }

  absl::StatusOr<Buffer> TakePinned(size_t num_bytes) const {
    void* data = nullptr;
    const cudaError_t error =
        cudaHostAlloc(&data, num_bytes == 0 ? 1 : num_bytes, cudaHostAllocDefault);
    if (error != cudaSuccess) {
      cudaGetLastError();
      return CannotAllocate(num_bytes, " pinned", cudaGetErrorString(error));
    }
    return Buffer(data, num_bytes, [](void* memory) { cudaFreeHost(memory); });
  }

  absl::StatusOr<Buffer> Take(size_t num_bytes) const {
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, num_bytes == 0 ? 1 : num_bytes);  // 0: no address
    if (error != cudaSuccess) {
      cudaGetLastError();
      return CannotAllocate(num_bytes, "", cudaGetErrorString(error));
    }
    return Buffer(data, num_bytes, [](void* memory) { cudaFree(memory); });
  }

  absl::StatusOr<Buffer> TakeReserved(size_t num_bytes) const {
    const std::optional<size_t> offset = reservation_->arena.Take(num_bytes);
    if (!offset.has_value()) {
      return CannotAllocate(num_bytes, "",
                            absl::StrCat("of ", reservation_->arena.num_bytes(), " reserved ",
                                         reservation_->arena.num_free(), " are free"));
    }
    return Buffer(reservation_->data + *offset, num_bytes,
                  [reservation = reservation_, offset = *offset](void*) {
                    reservation->arena.GiveBack(offset);
                  });
  }

  int index_;
  std::string name_;
  std::shared_ptr<Reservation> reservation_;
};

// 13000 as "13.0".
std::string Version(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

// Why there are no devices to count.
absl::Status NoDevices(cudaError_t error) {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();
  if (driver == 0) {
    return absl::UnavailableError("no CUDA device: this machine has no NVIDIA driver");
  }
  if (error == cudaErrorInsufficientDriver) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the NVIDIA driver of this machine is for CUDA ", Version(driver),
        ", and this program needs ", Version(runtime), " or later: install a newer driver"));
  }
  return absl::UnavailableError(absl::StrCat("no CUDA device: ", cudaGetErrorString(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int index) {
  int num_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&num_devices);
  if (error != cudaSuccess) return NoDevices(error);
  if (num_devices == 0) return absl::UnavailableError("no CUDA device: the machine has none");
  if (index < 0 || index >= num_devices) {
    return absl::UnavailableError(
        absl::StrCat("no CUDA device ", index, ": the machine has ", num_devices,
                     num_devices == 1 ? ", number 0" : absl::StrCat(", 0 to ", num_devices - 1)));
  }
  cudaDeviceProp properties;
  RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
  return std::make_unique<CudaDevice>(index, absl::StrCat("cuda:", index, " ", properties.name));
}

}  // namespace orrery
