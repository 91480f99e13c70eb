#include "exchange/nccl/communicator.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));

absl::Status NcclStatus(ncclResult_t result, const char* call) {
  // In progress is how a non-blocking communicator says that it has begun.
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(call, ": ", ncclGetErrorString(result)));
}

absl::Status CudaStatus(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

class NcclCommunicator : public Communicator {
 public:
  explicit NcclCommunicator(const CommunicatorOptions& options)
      : options_(options),
        peer_(1 - static_cast<int>(options.direction)),
        marks_(options.num_slots, nullptr) {}

  ~NcclCommunicator() override {
    cudaSetDevice(options_.device_index);
    if (comm_ != nullptr) ncclCommAbort(comm_);
    if (stream_ != nullptr) {
      cudaStreamSynchronize(stream_);
      cudaStreamDestroy(stream_);
    }
    for (cudaEvent_t mark : marks_) {
      if (mark != nullptr) cudaEventDestroy(mark);
    }
  }

  absl::Status Open() {
    RETURN_IF_ERROR(MakeCurrent());
    RETURN_IF_ERROR(CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                               "cudaStreamCreateWithFlags"));
    for (cudaEvent_t& mark : marks_) {
      RETURN_IF_ERROR(CudaStatus(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming),
                                 "cudaEventCreateWithFlags"));
    }
    ncclUniqueId id;
    std::memcpy(&id, options_.id.data(), sizeof(id));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    // A pair moves at most half a megabyte at a time: one block of threads is enough, and the rest of
    // the GPU is for the model.
    config.minCTAs = 1;
    config.maxCTAs = 1;
    return NcclStatus(
        ncclCommInitRankConfig(&comm_, 2, id, static_cast<int>(options_.direction), &config),
        "ncclCommInitRankConfig");
  }

  absl::StatusOr<bool> Ready() override {
    ncclResult_t state = ncclSuccess;
    RETURN_IF_ERROR(NcclStatus(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError"));
    RETURN_IF_ERROR(NcclStatus(state, "NCCL, asynchronously"));
    return state == ncclSuccess;
  }

  absl::Status Send(const std::byte* host, std::byte* device, size_t num_bytes) override {
    RETURN_IF_ERROR(Copy(device, host, num_bytes));
    return NcclStatus(ncclSend(device, num_bytes, ncclUint8, peer_, comm_, stream_), "ncclSend");
  }

  absl::Status Receive(std::byte* device, size_t num_bytes) override {
    RETURN_IF_ERROR(MakeCurrent());
    return NcclStatus(ncclRecv(device, num_bytes, ncclUint8, peer_, comm_, stream_), "ncclRecv");
  }

  absl::Status CopyToHost(std::byte* host, const std::byte* device, size_t num_bytes) override {
    return Copy(host, device, num_bytes);
  }

  absl::Status Mark(int slot) override {
    RETURN_IF_ERROR(MakeCurrent());
    return CudaStatus(cudaEventRecord(marks_[slot], stream_), "cudaEventRecord");
  }

  absl::StatusOr<bool> IsOver(int slot) override {
    RETURN_IF_ERROR(MakeCurrent());
    const cudaError_t error = cudaEventQuery(marks_[slot]);
    if (error == cudaErrorNotReady) return false;
    RETURN_IF_ERROR(CudaStatus(error, "cudaEventQuery"));
    return true;
  }

 private:
  // Which GPU is current is a property of the calling thread.
  absl::Status MakeCurrent() {
    return CudaStatus(cudaSetDevice(options_.device_index), "cudaSetDevice");
  }
  absl::Status Copy(void* to, const void* from, size_t num_bytes) {
    RETURN_IF_ERROR(MakeCurrent());
    return CudaStatus(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream_),
                      "cudaMemcpyAsync");
  }

  const CommunicatorOptions options_;
  const int peer_;
  cudaStream_t stream_ = nullptr;
  std::vector<cudaEvent_t> marks_;  // [num_slots]
  ncclComm_t comm_ = nullptr;
};

}  // namespace

absl::StatusOr<int> Communicator::NcclVersion() {
  int version = 0;
  if (const ncclResult_t result = ncclGetVersion(&version); result != ncclSuccess) {
    return absl::InternalError(absl::StrCat("ncclGetVersion: ", ncclGetErrorString(result)));
  }
  return version;
}

absl::StatusOr<NcclId> Communicator::MakeId() {
  ncclUniqueId id;
  RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  NcclId bytes;
  std::memcpy(bytes.data(), &id, sizeof(id));
  return bytes;
}

absl::StatusOr<std::unique_ptr<Communicator>> Communicator::Start(
    const CommunicatorOptions& options) {
  auto communicator = std::make_unique<NcclCommunicator>(options);
  RETURN_IF_ERROR(communicator->Open());
  return communicator;
}

std::string NcclVersionText(int version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace orrery
