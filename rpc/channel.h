// Client side of a connection to a member, over TCP.
//
//   ASSIGN_OR_RETURN(auto channel, MakeChannel("expert-3.example:7420", tls));
//   auto stub = internal::Member::NewStub(channel);
//
// It connects when first used, in the background, and again after a loss; a DNS name is resolved
// anew then. A silent peer is noticed by keepalive pings. No proxy of the environment is used.
// Errors: INVALID_ARGUMENT (address is not host:port), and those of rpc/credentials.h. A peer that
// is not there is no error here; the calls say so.
#ifndef ORRERY_RPC_CHANNEL_H_
#define ORRERY_RPC_CHANNEL_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "grpcpp/channel.h"
#include "rpc/credentials.h"

namespace orrery {

// Largest message that members send each other; frames of rows have a smaller limit of their own.
inline constexpr int kMaxMessageBytes = 16 * 1024 * 1024;

// See ChannelOptions::fixed_window.
inline constexpr int kFixedWindowBytes = 64 * 1024;

struct ChannelOptions {
  // Channels to one address usually share a connection; this one gets its own, so that its frames
  // wait behind nobody's.
  bool own_connection = false;
  // A MemberChannel may use the Unix socket of a member on this host.
  bool local_socket = true;
  // Of a stream that nobody reads, at most kFixedWindowBytes come; else gRPC lets more come when there is more.
  bool fixed_window = false;
};

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const TlsFiles& tls,
                                                           const ChannelOptions& options = {});

// To the Unix socket that a server on this host has beside that address; rpc/member_channel.h
// chooses between the two.
std::shared_ptr<grpc::Channel> MakeLocalChannel(const std::string& address,
                                                const ChannelOptions& options = {});

}  // namespace orrery

#endif  // ORRERY_RPC_CHANNEL_H_
