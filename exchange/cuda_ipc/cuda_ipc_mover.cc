#include "exchange/cuda_ipc/cuda_ipc_mover.h"

#include <utility>

#include "device/cuda/cuda_line.h"
#include "device/cuda/cuda_stream.h"

namespace orrery {
namespace {

class IpcSender : public Mover {
 public:
  IpcSender(int device_index, Slots slots, std::shared_ptr<SentEvents> events)
      : device_index_(device_index),
        slots_(std::move(slots)),
        events_(std::move(events)),
        line_(device_index, /*num_marks=*/0) {}

  absl::Status Open() { return line_.Open(); }

  absl::Status Meet(std::string_view words) override {
    ASSIGN_OR_RETURN(const WindowWords parsed, ParseWindowWords(words));
    ASSIGN_OR_RETURN(window_, PeerWindow::Open(device_index_, parsed));
    return absl::OkStatus();
  }

  int num_slots() const override { return slots_.size(); }
  std::byte* host(int slot) const override { return slots_[slot].host; }
  absl::StatusOr<bool> Ready() override { return true; }

  absl::Status Start(int slot, size_t num_bytes) override {
    RETURN_IF_ERROR(line_.Copy(window_->slot(slot), slots_[slot].host, num_bytes));
    return CudaStatus(cudaEventRecord(events_->event(slots_[slot]), line_.handle()),
                      "cudaEventRecord");
  }
  absl::Status Finish(int slot, size_t num_bytes) override { return absl::OkStatus(); }

  absl::StatusOr<bool> IsOver(int slot) override {
    RETURN_IF_ERROR(line_.MakeCurrent());
    return IsReached(events_->event(slots_[slot]));
  }

 private:
  const int device_index_;
  // In this order: what uses others goes before them.
  const Slots slots_;
  const std::shared_ptr<SentEvents> events_;
  std::unique_ptr<PeerWindow> window_;
  CudaLine line_;
};

class IpcReceiver : public Mover {
 public:
  IpcReceiver(int device_index, Slots slots)
      : device_index_(device_index),
        slots_(std::move(slots)),
        line_(device_index, /*num_marks=*/slots_.size()) {}

  absl::Status Open() { return line_.Open(); }

  absl::Status Meet(std::string_view words) override {
    ASSIGN_OR_RETURN(const WindowWords parsed, ParseWindowWords(words));
    ASSIGN_OR_RETURN(events_, PeerEvents::Open(device_index_, parsed));
    return absl::OkStatus();
  }

  int num_slots() const override { return slots_.size(); }
  std::byte* host(int slot) const override { return slots_[slot].host; }

  absl::StatusOr<bool> Ready() override {
    if (asked_ < 0) return true;
    return events_->IsSent(asked_);
  }

  absl::Status Start(int slot, size_t num_bytes) override {
    asked_ = slot;
    return absl::OkStatus();
  }
  absl::Status Finish(int slot, size_t num_bytes) override {
    asked_ = -1;
    RETURN_IF_ERROR(line_.Copy(slots_[slot].host, slots_[slot].device, num_bytes));
    return line_.Mark(slot);
  }
  absl::StatusOr<bool> IsOver(int slot) override { return line_.IsReached(slot); }

 private:
  const int device_index_;
  const Slots slots_;
  std::unique_ptr<PeerEvents> events_;
  int asked_ = -1;  // the slot that the other side is writing into; none if negative
  CudaLine line_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Mover>> MakeIpcSender(int device_index, Slots slots,
                                                     std::shared_ptr<SentEvents> events) {
  auto sender = std::make_unique<IpcSender>(device_index, std::move(slots), std::move(events));
  RETURN_IF_ERROR(sender->Open());
  return sender;
}

absl::StatusOr<std::unique_ptr<Mover>> MakeIpcReceiver(int device_index, Slots slots) {
  auto receiver = std::make_unique<IpcReceiver>(device_index, std::move(slots));
  RETURN_IF_ERROR(receiver->Open());
  return receiver;
}

}  // namespace orrery
