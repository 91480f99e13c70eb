#include "rpc/channel.h"

#include <mutex>

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"
#include "rpc/address.h"
#include "rpc/keepalive.h"
#include "rpc/local_socket.h"
#include "rpc/nowhere.h"

namespace orrery {

namespace {

// How long connecting may take. With TLS on a machine that is overloaded, a second is not enough.
constexpr int kHandshakeMs = 1000;
constexpr int kTlsHandshakeMs = 3000;

grpc::ChannelArguments ArgumentsFor(const ChannelOptions& options, int handshake_ms) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no limit
  // A member that restarts is back within seconds, maybe at another address.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, handshake_ms);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 1000);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);  // notes about each connection that nobody reads
  // Who calls tries again where that is right. And the filter for it ends the process when trailers come without a
  // status (gRPC 1.51), as they may where bits flip on the way.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  if (options.fixed_window) {
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kFixedWindowBytes);
  }
  if (options.own_connection) arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

// Whoever lets go of a channel in a callback may be the last one with callbacks at all.
void KeepCallbackThreads() {
  static std::once_flag kept;
  std::call_once(kept, [] { CallNowhere([] {}); });
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const TlsFiles& tls,
                                                           const ChannelOptions& options) {
  ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
  if (target.port == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", address, "\": nobody can be reached at port 0"));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ChannelCredentials> credentials,
                   MakeChannelCredentials(tls, JoinHostPort(target)));
  KeepCallbackThreads();
  return grpc::CreateCustomChannel(
      JoinHostPort(target), credentials,
      ArgumentsFor(options, tls.empty() ? kHandshakeMs : kTlsHandshakeMs));
}

std::shared_ptr<grpc::Channel> MakeLocalChannel(const std::string& address,
                                                const ChannelOptions& options) {
  KeepCallbackThreads();
  return grpc::CreateCustomChannel(LocalTarget(address), grpc::InsecureChannelCredentials(),
                                   ArgumentsFor(options, kHandshakeMs));
}

}  // namespace orrery
