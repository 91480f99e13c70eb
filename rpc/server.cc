#include "rpc/server.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server_builder.h"
#include "rpc/address.h"
#include "rpc/channel.h"
#include "rpc/grpc_log.h"
#include "rpc/keepalive.h"

namespace orrery {
namespace {

// A stranger who says nothing holds a descriptor for so long, and not for gRPC's two minutes.
constexpr int kMaxHandshakeMs = 10'000;

// Linking the reflection library adds it to every server of the process; this takes it out of one
// again.
class NoReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    grpc::reflection::ProtoServerReflectionPlugin reflection;
    std::erase_if(*plugins,
                  [&](const auto& plugin) { return plugin->name() == reflection.name(); });
  }
};

// gRPC only says that it could not start. Binding by hand tells why.
absl::Status WhyNotStarted(const HostPort& address) {
  const std::string text = JoinHostPort(address);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int lookup =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (lookup != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on ", text, ": ", gai_strerror(lookup)));
  }
  int bind_error = 0;
  for (const addrinfo* info = found; info != nullptr && bind_error == 0; info = info->ai_next) {
    const int fd = socket(info->ai_family, info->ai_socktype, info->ai_protocol);
    if (fd < 0) continue;
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));  // as gRPC does
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0) bind_error = errno;
    close(fd);
  }
  freeaddrinfo(found);
  switch (bind_error) {
    case EADDRINUSE:
      return absl::AlreadyExistsError(
          absl::StrCat("cannot listen on ", text, ": the address is in use by another process"));
    case EADDRNOTAVAIL:
      return absl::InvalidArgumentError(
          absl::StrCat("cannot listen on ", text, ": this machine does not have the address"));
    case 0:
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", text, ", and the system does not say why"));
    default:
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", text, ": ", std::strerror(bind_error)));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      const std::vector<grpc::Service*>& services) {
  ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options.address));
  HostPort bound = address;
  if (!options.listen_address.empty()) {
    ASSIGN_OR_RETURN(bound, ParseHostPort(options.listen_address));
  }
  if (options.tls.empty() && !options.allow_plain_text && !IsLoopback(bound)) {
    return absl::FailedPreconditionError(
        absl::StrCat("without TLS nobody listens on ", JoinHostPort(bound),
                     ", which other machines reach: give the cluster file tls (`orrery certs` "
                     "makes certificates), "
                     "listen on 127.0.0.1, or say allow_plain_text: true"));
  }
  TakeOverGrpcLog();
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeServerCredentials(options.tls));
  static std::once_flag health_enabled;  // the call is not thread-safe
  std::call_once(health_enabled, [] { grpc::EnableDefaultHealthCheckService(true); });

  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(JoinHostPort(bound), credentials, &port);
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  // With SO_REUSEPORT two processes would share a port and each see half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);  // as rpc/channel.cc
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kKeepaliveTimeMs / 2);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kMaxHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_calls_per_connection);
  builder.SetResourceQuota(
      grpc::ResourceQuota().SetMaxThreads(options.max_threads).Resize(options.max_buffer_bytes));
  if (!options.reflection) builder.SetOption(std::make_unique<NoReflection>());
  for (grpc::Service* service : services) builder.RegisterService(service);
  const bool is_local_too = options.tls.empty();
  std::unique_ptr<LocalAcceptor> acceptor;
  if (is_local_too) {
    acceptor = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        grpc::InsecureServerCredentials());
  }

  auto server = std::unique_ptr<Server>(new Server());
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || port == 0) return WhyNotStarted(bound);
  if (address.port == 0) address.port = port;
  server->port_ = port;
  server->address_ = JoinHostPort(address);
  server->health_name_ = options.health_name;
  if (is_local_too) server->ListenLocally(std::move(acceptor));
  server->SetServing(false);
  return server;
}

void Server::ListenLocally(std::unique_ptr<LocalAcceptor> acceptor) {
  acceptor_ = std::move(acceptor);
  absl::StatusOr<std::unique_ptr<LocalSocket>> socket =
      LocalSocket::Listen(address_, [this](int connection) {
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
        parameters.fd = connection;
        acceptor_->HandleNewConnection(&parameters);
      });
  if (socket.ok()) {
    local_socket_ = *std::move(socket);
  } else {
    LogInfo("members on this host come over TCP: ", socket.status().ToString());
  }
}

Server::~Server() { Stop(absl::Now()); }

void Server::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  health->SetServingStatus("", serving);
  if (!health_name_.empty()) health->SetServingStatus(health_name_, serving);
}

void Server::Stop(absl::Time deadline) {
  if (server_ == nullptr) return;
  {
    std::lock_guard lock(stop_mutex_);
    local_socket_.reset();  // so that nobody takes a connection for a sign of life
  }
  if (grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService()) {
    health->Shutdown();  // not serving, for good
  }
  server_->Shutdown(absl::ToChronoTime(deadline));
  server_->Wait();
}

}  // namespace orrery
