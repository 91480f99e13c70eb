#include "tools/chaos/fault_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "rpc/address.h"

namespace orrery {
namespace {

constexpr int kPieceBytes = 16 * 1024;
// How long a fault that has ended, or the end of the proxy, may go unnoticed.
constexpr int kLookMs = 20;

sockaddr_in LoopbackAddress(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// -1 if nobody listens there.
int Dial(const std::string& target) {
  const absl::StatusOr<HostPort> address = ParseHostPort(target);
  if (!address.ok()) return -1;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in to = LoopbackAddress(address->port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
    close(fd);
    return -1;
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

bool SendAll(int fd, const char* data, ssize_t num) {
  while (num > 0) {
    const ssize_t sent = send(fd, data, num, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data += sent;
    num -= sent;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FaultProxy>> FaultProxy::Start(const std::string& target) {
  std::unique_ptr<FaultProxy> proxy(new FaultProxy());
  proxy->target_ = target;
  proxy->listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = LoopbackAddress(0);
  socklen_t size = sizeof(address);
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  if (proxy->listener_ < 0 || bind(proxy->listener_, raw, size) != 0 ||
      listen(proxy->listener_, 64) != 0 || getsockname(proxy->listener_, raw, &size) != 0) {
    return absl::ErrnoToStatus(errno, "the proxy cannot listen");
  }
  proxy->address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  proxy->thread_ = std::thread([self = proxy.get()] { self->Listen(); });
  return proxy;
}

FaultProxy::~FaultProxy() {
  is_stopping_ = true;
  if (thread_.joinable()) thread_.join();
  CutAll();
  for (const auto& connection : connections_) {
    connection->to_target.join();
    connection->to_client.join();
    close(connection->client);
    close(connection->target);
  }
  if (listener_ >= 0) close(listener_);
}

void FaultProxy::Set(const ProxyFault& fault) {
  std::lock_guard<std::mutex> lock(mutex_);
  fault_ = fault;
}

ProxyFault FaultProxy::fault() {
  std::lock_guard<std::mutex> lock(mutex_);
  return fault_;
}

void FaultProxy::CutAll() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& connection : connections_) {
    shutdown(connection->client, SHUT_RDWR);
    shutdown(connection->target, SHUT_RDWR);
  }
}

void FaultProxy::Listen() {
  while (!is_stopping_) {
    pollfd wanted = {.fd = listener_, .events = POLLIN, .revents = 0};
    if (poll(&wanted, 1, kLookMs) > 0) {
      const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client >= 0) Accept(client);
    }
    Reap();
  }
}

void FaultProxy::Accept(int client) {
  const int target = fault().refuse ? -1 : Dial(target_);
  if (target < 0) {
    close(client);
    return;
  }
  const int on = 1;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  auto connection = std::make_unique<Connection>();
  connection->client = client;
  connection->target = target;
  Connection& pumped = *connection;
  connection->to_target = std::thread([this, &pumped] { Pump(pumped, Direction::kToTarget); });
  connection->to_client = std::thread([this, &pumped] { Pump(pumped, Direction::kToClient); });
  std::lock_guard<std::mutex> lock(mutex_);
  connections_.push_back(std::move(connection));
}

void FaultProxy::Pump(Connection& connection, Direction direction) {
  const bool to_target = direction == Direction::kToTarget;
  const int from = to_target ? connection.client : connection.target;
  const int to = to_target ? connection.target : connection.client;
  std::mt19937_64 random(fault().seed + static_cast<uint64_t>(from) * 2 + to_target);
  std::uniform_real_distribution<double> chance;
  std::vector<char> piece(kPieceBytes);
  while (true) {
    const ssize_t num = recv(from, piece.data(), piece.size(), 0);
    if (num <= 0) break;
    ProxyFault fault = this->fault();
    bool was_dropped = false;
    while ((to_target ? fault.drop_to_target : fault.drop_to_client) && !is_stopping_) {
      was_dropped = true;
      // A connection that is closed meanwhile has nobody to hold anything back from.
      pollfd closed = {.fd = to, .events = 0, .revents = 0};
      if (poll(&closed, 1, kLookMs) > 0) break;
      fault = this->fault();
    }
    if (was_dropped) {
      ++num_harmed_;
      break;
    }
    if (fault.delay > absl::ZeroDuration()) absl::SleepFor(fault.delay);
    if (chance(random) < fault.cut_per_piece) {
      ++num_harmed_;
      break;
    }
    if (chance(random) < fault.flip_per_piece) {
      ++num_harmed_;
      const uint64_t bit = random() % (8 * static_cast<uint64_t>(num));
      piece[bit / 8] = static_cast<char>(piece[bit / 8] ^ (1 << bit % 8));
    }
    if (!SendAll(to, piece.data(), num)) break;
  }
  shutdown(from, SHUT_RDWR);
  shutdown(to, SHUT_RDWR);
  --connection.num_pumps;
}

void FaultProxy::Reap() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(connections_, [](const std::unique_ptr<Connection>& connection) {
    if (connection->num_pumps > 0) return false;
    connection->to_target.join();
    connection->to_client.join();
    close(connection->client);
    close(connection->target);
    return true;
  });
}

}  // namespace orrery
