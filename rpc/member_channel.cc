#include "rpc/member_channel.h"

#include <utility>

#include "rpc/address.h"
#include "rpc/local_socket.h"

namespace orrery {

absl::StatusOr<std::shared_ptr<MemberChannel>> MemberChannel::Make(const std::string& address,
                                                                   const TlsFiles& tls,
                                                                   const ChannelOptions& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> remote, MakeChannel(address, tls, options));
  ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
  const std::string name = JoinHostPort(target);  // as the server says it
  std::shared_ptr<grpc::Channel> local;
  if (tls.empty() && options.local_socket) local = MakeLocalChannel(name, options);
  return std::shared_ptr<MemberChannel>(
      new MemberChannel(std::move(remote), std::move(local), name));
}

std::shared_ptr<grpc::Channel> MemberChannel::Now() {
  if (local_ == nullptr) return remote_;
  // While it stands it needs no looking.
  if (local_->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY) return local_;
  return SomebodyListensLocally(address_) ? local_ : remote_;
}

}  // namespace orrery
