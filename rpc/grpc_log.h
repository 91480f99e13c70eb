// gRPC's own messages, such as why a handshake failed, as lines of our log, and rarely (rare_warnings.h): a
// stranger who fails handshakes again and again must not fill a disk.
//
// Internal to rpc. Idempotent; threads: any.
#ifndef ORRERY_RPC_GRPC_LOG_H_
#define ORRERY_RPC_GRPC_LOG_H_

namespace orrery {

void TakeOverGrpcLog();

}  // namespace orrery

#endif  // ORRERY_RPC_GRPC_LOG_H_
