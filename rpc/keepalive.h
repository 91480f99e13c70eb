// How both ends of a connection notice a peer that is gone without a word (power, network). Shared,
// because a server drops clients that ping more often than it allows. Header only.
#ifndef ORRERY_RPC_KEEPALIVE_H_
#define ORRERY_RPC_KEEPALIVE_H_

namespace orrery {

// A ping after this much silence; no answer within the timeout ends the connection: 15 seconds in
// all. Faults that the kernel sees (a killed process) end it at once.
inline constexpr int kKeepaliveTimeMs = 10'000;
inline constexpr int kKeepaliveTimeoutMs = 5'000;

}  // namespace orrery

#endif  // ORRERY_RPC_KEEPALIVE_H_
