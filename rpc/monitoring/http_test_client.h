// A plain socket that speaks HTTP/1.1, for tests.
//
//   EXPECT_EQ(HttpGet(address, "/livez").status, 200);
//   TestSocket socket(address);                 // for what a well-behaved client would not do
//   socket.Send("GET /livez HT");
//   EXPECT_EQ(socket.ReadAll(), "");            // the server closed it
#ifndef ORRERY_RPC_MONITORING_HTTP_TEST_CLIENT_H_
#define ORRERY_RPC_MONITORING_HTTP_TEST_CLIENT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "rpc/address.h"

namespace orrery {

// Connected to 127.0.0.1 or the like. Waits for the server at most a minute.
class TestSocket {
 public:
  explicit TestSocket(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const absl::StatusOr<HostPort> target = ParseHostPort(address);
    EXPECT_TRUE(target.ok()) << target.status();
    const timeval patience = {.tv_sec = 60, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in where = {};
    where.sin_family = AF_INET;
    where.sin_port = htons(static_cast<uint16_t>(target->port));
    EXPECT_EQ(inet_pton(AF_INET, target->host.c_str(), &where.sin_addr), 1) << address;
    is_connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&where), sizeof(where)) == 0;
  }
  ~TestSocket() { close(fd_); }
  TestSocket(const TestSocket&) = delete;
  TestSocket& operator=(const TestSocket&) = delete;

  bool is_connected() const { return is_connected_; }
  // As much as the server takes before it closes.
  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // Until the server closes.
  std::string ReadAll() {
    std::string all;
    char buffer[4096];
    for (ssize_t num = 0; (num = recv(fd_, buffer, sizeof(buffer), 0)) > 0;) {
      all.append(buffer, static_cast<size_t>(num));
    }
    return all;
  }

 private:
  const int fd_;
  bool is_connected_ = false;
};

struct HttpReply {
  int status = 0;  // 0: none came
  std::string header;
  std::string body;
};

inline HttpReply ParseReply(const std::string& text) {
  const size_t end = text.find("\r\n\r\n");
  if (text.rfind("HTTP/1.1 ", 0) != 0 || end == std::string::npos) return {};
  return {.status = std::atoi(text.c_str() + 9),
          .header = text.substr(0, end),
          .body = text.substr(end + 4)};
}

inline HttpReply HttpAsk(const std::string& address, const std::string& method,
                         const std::string& path, const std::string& body = "") {
  TestSocket socket(address);
  if (!socket.is_connected()) return {};
  socket.Send(absl::StrCat(method, " ", path, " HTTP/1.1\r\nHost: ", address,
                           "\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  return ParseReply(socket.ReadAll());
}

inline HttpReply HttpGet(const std::string& address, const std::string& path) {
  return HttpAsk(address, "GET", path);
}

}  // namespace orrery

#endif  // ORRERY_RPC_MONITORING_HTTP_TEST_CLIENT_H_
