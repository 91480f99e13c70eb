#include "exchange/nccl/nccl_mover.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "device/cuda/cuda_line.h"

namespace orrery {
namespace {

static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));

absl::Status NcclStatus(ncclResult_t result, const char* call) {
  // In progress is how a non-blocking communicator says that it has begun.
  if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(call, ": ", ncclGetErrorString(result)));
}

class NcclMoverImpl : public NcclMover {
 public:
  NcclMoverImpl(const NcclMoverOptions& options, Slots slots)
      : direction_(options.direction),
        peer_(1 - static_cast<int>(options.direction)),
        slots_(std::move(slots)),
        line_(options.device_index, slots_.size()) {}

  ~NcclMoverImpl() override {
    if (comm_ == nullptr) return;
    line_.MakeCurrent().IgnoreError();
    ncclCommAbort(comm_);
  }

  absl::Status Open() { return line_.Open(); }

  absl::Status Join(const NcclId& bytes) override {
    RETURN_IF_ERROR(line_.MakeCurrent());
    ncclUniqueId id;
    std::memcpy(&id, bytes.data(), sizeof(id));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    // A pair moves at most half a megabyte at a time: one block of threads is enough, and the rest of
    // the GPU is for the model.
    config.minCTAs = 1;
    config.maxCTAs = 1;
    return NcclStatus(ncclCommInitRankConfig(&comm_, 2, id, static_cast<int>(direction_), &config),
                      "ncclCommInitRankConfig");
  }

  absl::Status Meet(std::string_view words) override {
    if (comm_ != nullptr) return absl::OkStatus();  // a rank's began to join when it made the ids
    NcclIds ids;
    if (words.size() != sizeof(ids)) {
      return absl::InvalidArgumentError(
          absl::StrCat("an invitation to NCCL of ", words.size(), " bytes, it has ", sizeof(ids)));
    }
    std::memcpy(&ids, words.data(), sizeof(ids));
    return Join(direction_ == Direction::kReceive ? ids.to_shard : ids.to_rank);
  }

  int num_slots() const override { return slots_.size(); }
  std::byte* host(int slot) const override { return slots_[slot].host; }

  absl::StatusOr<bool> Ready() override {
    ncclResult_t state = ncclSuccess;
    RETURN_IF_ERROR(NcclStatus(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError"));
    RETURN_IF_ERROR(NcclStatus(state, "NCCL, asynchronously"));
    return state == ncclSuccess;
  }

  absl::Status Start(int slot, size_t num_bytes) override {
    std::byte* const device = slots_[slot].device;
    if (direction_ == Direction::kSend) {
      RETURN_IF_ERROR(line_.Copy(device, slots_[slot].host, num_bytes));
      return NcclStatus(ncclSend(device, num_bytes, ncclUint8, peer_, comm_, line_.handle()),
                        "ncclSend");
    }
    RETURN_IF_ERROR(line_.MakeCurrent());
    return NcclStatus(ncclRecv(device, num_bytes, ncclUint8, peer_, comm_, line_.handle()),
                      "ncclRecv");
  }

  absl::Status Finish(int slot, size_t num_bytes) override {
    if (direction_ == Direction::kReceive) {
      RETURN_IF_ERROR(line_.Copy(slots_[slot].host, slots_[slot].device, num_bytes));
    }
    return line_.Mark(slot);
  }

  absl::StatusOr<bool> IsOver(int slot) override { return line_.IsReached(slot); }

 private:
  const Direction direction_;
  const int peer_;
  const Slots slots_;  // they go last, then nothing uses them
  CudaLine line_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace

absl::StatusOr<int> NcclVersion() {
  int version = 0;
  if (const ncclResult_t result = ncclGetVersion(&version); result != ncclSuccess) {
    return absl::InternalError(absl::StrCat("ncclGetVersion: ", ncclGetErrorString(result)));
  }
  return version;
}

std::string NcclVersionText(int version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<NcclId> MakeNcclId() {
  ncclUniqueId id;
  RETURN_IF_ERROR(NcclStatus(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  NcclId bytes;
  std::memcpy(bytes.data(), &id, sizeof(id));
  return bytes;
}

absl::StatusOr<std::unique_ptr<NcclMover>> NcclMover::Make(const NcclMoverOptions& options,
                                                           Slots slots) {
  auto mover = std::make_unique<NcclMoverImpl>(options, std::move(slots));
  RETURN_IF_ERROR(mover->Open());
  return mover;
}

}  // namespace orrery
