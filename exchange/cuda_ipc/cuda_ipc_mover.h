// One direction of an edge by CUDA IPC. The sender copies from its pinned memory into the receiver's window,
// and records an event behind the copy; the receiver asks that event, never waits for it, and copies to its own
// pinned memory. So nothing on either GPU waits for the other process, and its death ends nothing but its
// own work.
//
// Slot i of the sender writes into slot i of the receiver, as both count alike.
//
// Errors: INTERNAL, naming the call. Threads: one at a time.
#ifndef ORRERY_EXCHANGE_CUDA_IPC_CUDA_IPC_MOVER_H_
#define ORRERY_EXCHANGE_CUDA_IPC_CUDA_IPC_MOVER_H_

#include <memory>

#include "base/status.h"
#include "exchange/cuda_ipc/window.h"
#include "exchange/edge/mover.h"
#include "exchange/edge/slots.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<Mover>> MakeIpcSender(int device_index, Slots slots,
                                                     std::shared_ptr<SentEvents> events);
// slots: of the window, in the device's memory and on the host.
absl::StatusOr<std::unique_ptr<Mover>> MakeIpcReceiver(int device_index, Slots slots);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_CUDA_IPC_CUDA_IPC_MOVER_H_
