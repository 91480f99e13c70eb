// Deadlines as absl::Time at the border to gRPC, which wants them as system_clock. Header only.
//
//   grpc::ClientContext context;
//   SetDeadline(context, absl::Now() + absl::Seconds(2));   // every call has one
//
//   absl::Time deadline = DeadlineOf(*server_context);   // InfiniteFuture if the client gave none
#ifndef ORRERY_RPC_DEADLINE_H_
#define ORRERY_RPC_DEADLINE_H_

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"

namespace orrery {

inline void SetDeadline(grpc::ClientContext& context, absl::Time deadline) {
  context.set_deadline(absl::ToChronoTime(deadline));
}

inline absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  // gRPC's "never" is the largest time point, give or take its conversions; a century says it as
  // well.
  const absl::Time time = absl::FromChrono(deadline);
  return time > absl::Now() + absl::Hours(24 * 365 * 100) ? absl::InfiniteFuture() : time;
}

}  // namespace orrery

#endif  // ORRERY_RPC_DEADLINE_H_
