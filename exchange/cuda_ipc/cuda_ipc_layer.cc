#include "exchange/cuda_ipc/cuda_ipc_layer.h"

#include <utility>

#include "base/log.h"
#include "device/cuda/cuda_stream.h"
#include "exchange/cuda_ipc/cuda_ipc_mover.h"
#include "exchange/cuda_ipc/window.h"

namespace orrery {
namespace {

// What the edges of a process take from: allocated at start, given back by each.
struct Windows {
  std::shared_ptr<SlotPool> in;   // written by others
  std::shared_ptr<SlotPool> out;  // on the host only
  std::shared_ptr<SentEvents> sent;
  cudaIpcMemHandle_t handle = {};  // of the memory of `in`
  uint64_t num_bytes = 0;
};

class CudaIpcCarrier : public Carrier {
 public:
  CudaIpcCarrier(int device_index, Windows windows)
      : device_index_(device_index), windows_(std::move(windows)) {}

  std::string_view name() const override { return "cuda_ipc"; }
  std::string terms() const override { return "cuda_ipc"; }
  bool is_one_sided() const override { return true; }

  absl::Status Make(EdgeRole, Half& half) override {
    ASSIGN_OR_RETURN(Slots in, SlotPool::Take(windows_.in, kSlotsPerPipe));
    ASSIGN_OR_RETURN(Slots out, SlotPool::Take(windows_.out, kSlotsPerPipe));
    WindowWords words{.window = windows_.handle, .window_bytes = windows_.num_bytes};
    for (int i = 0; i < kSlotsPerPipe; ++i) {
      words.slot_begin[i] = static_cast<uint64_t>(in[i].device - windows_.in->device_begin());
      words.sent[i] = windows_.sent->handle(out[i]);
    }
    half.words.assign(reinterpret_cast<const char*>(&words), sizeof(words));
    ASSIGN_OR_RETURN(std::unique_ptr<Mover> sender,
                     MakeIpcSender(device_index_, std::move(out), windows_.sent));
    half.out = std::make_unique<Pipe>(Direction::kSend, std::move(sender), is_one_sided());
    ASSIGN_OR_RETURN(std::unique_ptr<Mover> receiver,
                     MakeIpcReceiver(device_index_, std::move(in)));
    half.in = std::make_unique<Pipe>(Direction::kReceive, std::move(receiver), is_one_sided());
    return absl::OkStatus();
  }

 private:
  const int device_index_;
  const Windows windows_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeCudaIpcLayer(const CudaIpcOptions& options,
                                                               std::unique_ptr<Device> device) {
  RETURN_IF_ERROR(CheckEdgeOptions(options.edges));
  const int num_slots = options.edges.max_edges * kSlotsPerPipe;
  Windows windows;
  ASSIGN_OR_RETURN(windows.in, SlotPool::Make(device.get(), {.num_slots = num_slots}));
  ASSIGN_OR_RETURN(windows.out,
                   SlotPool::Make(device.get(), {.num_slots = num_slots, .on_device = false}));
  ASSIGN_OR_RETURN(windows.sent, SentEvents::Make(options.device_index, num_slots));
  windows.num_bytes = static_cast<uint64_t>(num_slots) * kSlotBytes;
  RETURN_IF_ERROR(CudaStatus(cudaIpcGetMemHandle(&windows.handle, windows.in->device_begin()),
                             "cudaIpcGetMemHandle"));
  LogInfo("exchange: CUDA IPC on ", device->name(), ", for up to ", options.edges.max_edges,
          " connections");
  return MakeEdgeLayer(std::make_unique<CudaIpcCarrier>(options.device_index, std::move(windows)),
                       options.edges);
}

}  // namespace orrery
