// A connection to a member over the best way that there is whenever one is asked for: its Unix
// socket if it runs on this host, as this user, without TLS; TCP otherwise.
//
//   ASSIGN_OR_RETURN(auto member, MemberChannel::Make("127.0.0.1:7420", tls));
//   auto stub = internal::Member::NewStub(member->Now());      // for one call or stream
//
// Whoever keeps what Now() gave keeps the way, too: it goes on working as long as the member has
// it. Nobody has to find out which addresses are this host's (rpc/local_socket.h).
//
// Threads: any. It holds the channels that it gave out; let it outlive its calls.
// Errors: as MakeChannel.
#ifndef ORRERY_RPC_MEMBER_CHANNEL_H_
#define ORRERY_RPC_MEMBER_CHANNEL_H_

#include <memory>
#include <mutex>
#include <string>

#include "base/status.h"
#include "rpc/channel.h"

namespace orrery {

class MemberChannel {
 public:
  static absl::StatusOr<std::shared_ptr<MemberChannel>> Make(const std::string& address,
                                                             const TlsFiles& tls,
                                                             const ChannelOptions& options = {});
  std::shared_ptr<grpc::Channel> Now();

 private:
  MemberChannel(std::shared_ptr<grpc::Channel> remote, std::shared_ptr<grpc::Channel> local,
                std::string address)
      : remote_(std::move(remote)), local_(std::move(local)), address_(std::move(address)) {}

  const std::shared_ptr<grpc::Channel> remote_;
  const std::shared_ptr<grpc::Channel> local_;  // null with TLS; connects only when used
  const std::string address_;
};

}  // namespace orrery

#endif  // ORRERY_RPC_MEMBER_CHANNEL_H_
