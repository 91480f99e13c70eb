// How long the rings of a connection are: one each way, for each lane of each peer.
#ifndef ORRERY_EXCHANGE_SHM_RING_BYTES_H_
#define ORRERY_EXCHANGE_SHM_RING_BYTES_H_

#include <cstddef>

#include "exchange/exchange.h"

namespace orrery {

// Two of the largest frames; with less a ring could stay stuck at one that wraps around.
inline constexpr size_t kRingBytes = 2 * kMaxFrameBytes;

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_RING_BYTES_H_
