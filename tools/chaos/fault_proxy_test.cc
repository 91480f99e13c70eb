#include "tools/chaos/fault_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bitset>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "rpc/address.h"

namespace orrery {
namespace {

// Sends back what it gets, one connection after the other, until the first empty one.
class Echo {
 public:
  Echo() {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      while (true) {
        const int fd = accept(listener_, nullptr, nullptr);
        if (fd < 0) return;
        char piece[1024];
        ssize_t num = 0;
        while ((num = recv(fd, piece, sizeof(piece), 0)) > 0) send(fd, piece, num, MSG_NOSIGNAL);
        close(fd);
      }
    });
  }
  ~Echo() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
};

class Client {
 public:
  explicit Client(const std::string& address) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(ParseHostPort(address)->port));
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  }
  ~Client() { close(fd_); }
  void Send(const std::string& text) { send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  // What comes back, `num` bytes of it, or less if the connection is cut.
  std::string Receive(size_t num) {
    std::string text;
    char byte = 0;
    while (text.size() < num && recv(fd_, &byte, 1, 0) == 1) text += byte;
    return text;
  }

 private:
  int fd_ = -1;
};

TEST(FaultProxy, CarriesBytesBothWays) {
  Echo echo;
  const auto proxy = *FaultProxy::Start(echo.address());
  Client client(proxy->address());
  client.Send("there and back");
  EXPECT_EQ(client.Receive(14), "there and back");
  EXPECT_EQ(proxy->num_harmed(), 0);
}

TEST(FaultProxy, CutsAllConnectionsAndTakesNewOnes) {
  Echo echo;
  const auto proxy = *FaultProxy::Start(echo.address());
  {
    Client client(proxy->address());
    client.Send("a");
    EXPECT_EQ(client.Receive(1), "a");
    proxy->CutAll();
    EXPECT_EQ(client.Receive(1), "");
  }
  Client next(proxy->address());
  next.Send("b");
  EXPECT_EQ(next.Receive(1), "b");
}

TEST(FaultProxy, FlipsOneBitOfAPieceOnEachWay) {
  Echo echo;
  const auto proxy = *FaultProxy::Start(echo.address());
  proxy->Set({.flip_per_piece = 1.0});
  Client client(proxy->address());
  client.Send(std::string(8, '\0'));
  const std::string got = client.Receive(8);
  ASSERT_EQ(got.size(), 8u);
  size_t num_ones = 0;
  for (const char byte : got) num_ones += std::bitset<8>(static_cast<uint8_t>(byte)).count();
  EXPECT_GE(proxy->num_harmed(), 2);
  EXPECT_LE(num_ones, static_cast<size_t>(proxy->num_harmed()));
}

TEST(FaultProxy, APartitionThatHealsCutsWhatWaited) {
  Echo echo;
  const auto proxy = *FaultProxy::Start(echo.address());
  Client client(proxy->address());
  client.Send("a");
  EXPECT_EQ(client.Receive(1), "a");
  proxy->Set({.drop_to_target = true});
  client.Send("b");
  proxy->Set({});
  // Either it was through before the fault was seen, or the connection ends; never does it hang.
  EXPECT_LE(client.Receive(1).size(), 1u);
}

TEST(FaultProxy, RefusesNewConnections) {
  Echo echo;
  const auto proxy = *FaultProxy::Start(echo.address());
  proxy->Set({.refuse = true});
  Client client(proxy->address());
  client.Send("a");
  EXPECT_EQ(client.Receive(1), "");
}

}  // namespace
}  // namespace orrery
