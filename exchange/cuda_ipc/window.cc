#include "exchange/cuda_ipc/window.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "device/cuda/cuda_line.h"
#include "device/cuda/cuda_stream.h"

namespace orrery {
namespace {

absl::Status MakeCurrent(int device_index) {
  return CudaStatus(cudaSetDevice(device_index), "cudaSetDevice");
}

}  // namespace

absl::StatusOr<WindowWords> ParseWindowWords(std::string_view words) {
  WindowWords parsed;
  if (words.size() != sizeof(parsed)) {
    return absl::InvalidArgumentError(absl::StrCat("words of CUDA IPC have ", words.size(),
                                                   " bytes, they take ", sizeof(parsed)));
  }
  std::memcpy(&parsed, words.data(), sizeof(parsed));
  for (const uint64_t begin : parsed.slot_begin) {
    if (parsed.window_bytes < kSlotBytes || begin > parsed.window_bytes - kSlotBytes) {
      return absl::InvalidArgumentError(absl::StrCat("a slot of CUDA IPC begins at ", begin,
                                                     ", the window has ", parsed.window_bytes,
                                                     " bytes and a slot ", kSlotBytes));
    }
  }
  return parsed;
}

absl::StatusOr<std::shared_ptr<SentEvents>> SentEvents::Make(int device_index, int num_slots) {
  std::shared_ptr<SentEvents> made(new SentEvents(device_index));
  RETURN_IF_ERROR(MakeCurrent(device_index));
  for (int i = 0; i < num_slots; ++i) {
    cudaEvent_t event = nullptr;
    RETURN_IF_ERROR(
        CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventInterprocess),
                   "cudaEventCreateWithFlags"));
    made->events_.push_back(event);
    RETURN_IF_ERROR(CudaStatus(cudaIpcGetEventHandle(&made->handles_.emplace_back(), event),
                               "cudaIpcGetEventHandle"));
  }
  return made;
}

SentEvents::~SentEvents() {
  cudaSetDevice(device_index_);
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

absl::StatusOr<std::unique_ptr<PeerWindow>> PeerWindow::Open(int device_index,
                                                             const WindowWords& words) {
  std::unique_ptr<PeerWindow> window(new PeerWindow);
  window->device_index_ = device_index;
  window->slot_begin_ = words.slot_begin;
  RETURN_IF_ERROR(MakeCurrent(device_index));
  void* begin = nullptr;
  RETURN_IF_ERROR(
      CudaStatus(cudaIpcOpenMemHandle(&begin, words.window, cudaIpcMemLazyEnablePeerAccess),
                 "cudaIpcOpenMemHandle"));
  window->begin_ = static_cast<std::byte*>(begin);
  return window;
}

PeerWindow::~PeerWindow() {
  if (begin_ == nullptr) return;
  cudaSetDevice(device_index_);
  cudaIpcCloseMemHandle(begin_);
}

absl::StatusOr<std::unique_ptr<PeerEvents>> PeerEvents::Open(int device_index,
                                                             const WindowWords& words) {
  std::unique_ptr<PeerEvents> peer(new PeerEvents);
  peer->device_index_ = device_index;
  RETURN_IF_ERROR(MakeCurrent(device_index));
  for (int slot = 0; slot < kSlotsPerPipe; ++slot) {
    RETURN_IF_ERROR(CudaStatus(cudaIpcOpenEventHandle(&peer->events_[slot], words.sent[slot]),
                               "cudaIpcOpenEventHandle"));
  }
  return peer;
}

PeerEvents::~PeerEvents() {
  cudaSetDevice(device_index_);
  for (cudaEvent_t event : events_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
}

absl::StatusOr<bool> PeerEvents::IsSent(int slot) const {
  RETURN_IF_ERROR(MakeCurrent(device_index_));
  return IsReached(events_[slot]);
}

}  // namespace orrery
