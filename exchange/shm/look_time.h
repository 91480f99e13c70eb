// How eagerly the threads of this transport wait. Header only.
#ifndef ORRERY_EXCHANGE_SHM_LOOK_TIME_H_
#define ORRERY_EXCHANGE_SHM_LOOK_TIME_H_

#include "absl/time/time.h"

namespace orrery {

// How long threads of both sides look for the next frame before they sleep, letting everybody go
// first who has something to do. To wake a sleeping core takes some 20 us in a virtual machine, and
// an exchange would wake three threads; of one row it takes 30 us if none sleeps.
inline constexpr absl::Duration kShmLookTime = absl::Microseconds(50);

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_SHM_LOOK_TIME_H_
