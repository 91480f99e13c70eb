// NCCL with one member, which sends to itself: more cannot be had on one GPU, since NCCL refuses two members there.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "device/cuda/cuda_stream.h"
#include "tests/gpu_check/gpu.h"
#include "tests/gpu_check/parts.h"

namespace orrery {
namespace {

constexpr char kSuite[] = "Nccl";
constexpr const char* kLibraries[] = {"libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2"};
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kLookInterval = absl::Milliseconds(1);

// The functions that we call. Loaded, so that this program runs where NCCL is not installed.
struct NcclFunctions {
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetErrorString) get_error_string;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) init;
  decltype(&ncclCommGetAsyncError) get_async_error;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) receive;
  decltype(&ncclCommAbort) abort;

  absl::Status Load() {
    void* library = nullptr;
    std::string error;
    for (const char* name : kLibraries) {
      library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library != nullptr) break;
      if (error.empty()) error = dlerror();
    }
    if (library == nullptr) {
      return absl::UnavailableError(absl::StrCat("NCCL cannot be loaded: ", error));
    }
    RETURN_IF_ERROR(Find(library, "ncclGetVersion", get_version));
    RETURN_IF_ERROR(Find(library, "ncclGetErrorString", get_error_string));
    RETURN_IF_ERROR(Find(library, "ncclGetUniqueId", get_unique_id));
    RETURN_IF_ERROR(Find(library, "ncclCommInitRankConfig", init));
    RETURN_IF_ERROR(Find(library, "ncclCommGetAsyncError", get_async_error));
    RETURN_IF_ERROR(Find(library, "ncclGroupStart", group_start));
    RETURN_IF_ERROR(Find(library, "ncclGroupEnd", group_end));
    RETURN_IF_ERROR(Find(library, "ncclSend", send));
    RETURN_IF_ERROR(Find(library, "ncclRecv", receive));
    return Find(library, "ncclCommAbort", abort);
  }

 private:
  template <typename Function>
  static absl::Status Find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function != nullptr) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("NCCL has no ", name));
  }
};

class LoneMember {
 public:
  explicit LoneMember(const NcclFunctions* nccl) : nccl_(*nccl) {}
  ~LoneMember() {
    if (comm_ != nullptr) nccl_.abort(comm_);
  }

  // Non-blocking, as in exchange/nccl.
  absl::Status Join() {
    ncclUniqueId id;
    RETURN_IF_ERROR(NcclStatus(nccl_.get_unique_id(&id), "ncclGetUniqueId"));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    RETURN_IF_ERROR(NcclStatus(nccl_.init(&comm_, /*nranks=*/1, id, /*rank=*/0, &config),
                               "ncclCommInitRankConfig"));
    return AwaitReady();
  }

  absl::Status SendToItself(const Buffer& from, const Buffer& to, CudaStream& stream) {
    const size_t num_bytes = from.num_bytes();
    RETURN_IF_ERROR(NcclStatus(nccl_.group_start(), "ncclGroupStart"));
    RETURN_IF_ERROR(NcclStatus(
        nccl_.send(from.data(), num_bytes, ncclUint8, 0, comm_, stream.handle()), "ncclSend"));
    RETURN_IF_ERROR(NcclStatus(
        nccl_.receive(to.data(), num_bytes, ncclUint8, 0, comm_, stream.handle()), "ncclRecv"));
    RETURN_IF_ERROR(NcclStatus(nccl_.group_end(), "ncclGroupEnd"));
    RETURN_IF_ERROR(AwaitReady());
    const absl::Time deadline = absl::Now() + kPatience;
    while (cudaStreamQuery(stream.handle()) == cudaErrorNotReady) {
      if (absl::Now() > deadline) return absl::DeadlineExceededError("NCCL's work did not end");
      absl::SleepFor(kLookInterval);
    }
    return stream.Synchronize();
  }

 private:
  absl::Status NcclStatus(ncclResult_t result, const char* call) const {
    // In progress is how a non-blocking communicator says that it has begun.
    if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
    return absl::InternalError(absl::StrCat(call, ": ", nccl_.get_error_string(result)));
  }
  absl::Status AwaitReady() {
    const absl::Time deadline = absl::Now() + kPatience;
    while (true) {
      ncclResult_t state = ncclSuccess;
      RETURN_IF_ERROR(NcclStatus(nccl_.get_async_error(comm_, &state), "ncclCommGetAsyncError"));
      RETURN_IF_ERROR(NcclStatus(state, "NCCL, asynchronously"));
      if (state == ncclSuccess) return absl::OkStatus();
      if (absl::Now() > deadline) return absl::DeadlineExceededError("NCCL is still in progress");
      absl::SleepFor(kLookInterval);
    }
  }

  const NcclFunctions& nccl_;
  ncclComm_t comm_ = nullptr;
};

absl::Status CheckOneMember(const NcclFunctions& nccl) {
  int version = 0;
  nccl.get_version(&version);
  Note(absl::StrCat("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100));
  ASSIGN_OR_RETURN(const Gpu gpu, Gpu::Open());
  LoneMember member(&nccl);
  RETURN_IF_ERROR(member.Join());
  // A row of DeepSeek-R1, 64 of them, and what is no multiple of anything.
  for (const size_t num_bytes :
       {size_t{1}, size_t{14'336}, size_t{64 * 14'336}, size_t{1'000'003}}) {
    std::vector<uint8_t> sent(num_bytes);
    std::iota(sent.begin(), sent.end(), uint8_t{3});
    ASSIGN_OR_RETURN(const Buffer from, gpu.Upload(sent));
    ASSIGN_OR_RETURN(const Buffer to, gpu.Allocate(num_bytes));
    RETURN_IF_ERROR(member.SendToItself(from, to, static_cast<CudaStream&>(*gpu.stream)));
    ASSIGN_OR_RETURN(const std::vector<std::byte> received, gpu.Download(to, num_bytes));
    EXPECT_EQ(std::memcmp(received.data(), sent.data(), num_bytes), 0) << num_bytes << " bytes";
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterNccl() {
  RegisterTest(kSuite, "OneMember", [] {
    NcclFunctions nccl;
    if (const absl::Status loaded = nccl.Load(); !loaded.ok()) GTEST_SKIP() << loaded.message();
    const absl::Status status = CheckOneMember(nccl);
    EXPECT_TRUE(status.ok()) << status;
  });
}

}  // namespace orrery
