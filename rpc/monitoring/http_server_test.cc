#include "rpc/monitoring/http_server.h"

#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/monitoring/http_test_client.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

HttpAnswer Hello(std::string_view path) {
  if (path == "/hello") return {.body = "hello\n"};
  if (path == "/large") return {.body = std::string(4'000'000, 'x')};
  return {.status = 404, .body = "nothing here\n"};
}

std::unique_ptr<HttpServer> StartServer(HttpServerOptions options = {}) {
  options.address = "127.0.0.1:0";
  auto server = HttpServer::Start(options, Hello);
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(HttpServer, AnswersAPathWithOrWithoutAQuery) {
  const auto server = StartServer();
  for (const char* path : {"/hello", "/hello?x=1"}) {
    const HttpReply reply = HttpGet(server->address(), path);
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "hello\n");
    EXPECT_THAT(reply.header, HasSubstr("Content-Type: text/plain; charset=utf-8"));
    EXPECT_THAT(reply.header, HasSubstr("Content-Length: 6"));
  }
  EXPECT_EQ(HttpGet(server->address(), "/").status, 404);
  EXPECT_EQ(HttpGet(server->address(), "/hello/").status, 404);
}

TEST(HttpServer, SendsAnAnswerThatNoBufferHoldsAtOnce) {
  const auto server = StartServer();
  EXPECT_EQ(HttpGet(server->address(), "/large").body.size(), 4'000'000);
}

TEST(HttpServer, AnswersOtherMethodsWith405AlsoWhenTheyBringABody) {
  const auto server = StartServer();
  for (const char* method : {"POST", "PUT", "DELETE", "HEAD"}) {
    const HttpReply reply = HttpAsk(server->address(), method, "/hello", std::string(100'000, 'x'));
    EXPECT_EQ(reply.status, 405) << method;
    EXPECT_THAT(reply.header, HasSubstr("Allow: GET")) << method;
  }
}

TEST(HttpServer, AnswersWhatIsNoHttpWith400) {
  const auto server = StartServer();
  for (const char* text : {"\x16\x03\x01\x02 a TLS hello\r\n\r\n", "GET\r\n\r\n",
                           "GET /hello HTTP/1.1\r\nno colon\r\n\r\n"}) {
    TestSocket socket(server->address());
    socket.Send(text);
    EXPECT_EQ(ParseReply(socket.ReadAll()).status, 400) << text;
  }
}

TEST(HttpServer, AnswersAHeaderAboveTheLimitWith431) {
  const auto server = StartServer({.max_header_bytes = 1000});
  TestSocket socket(server->address());
  socket.Send("GET /hello HTTP/1.1\r\nX: " + std::string(2'000'000, 'x') + "\r\n\r\n");
  const HttpReply reply = ParseReply(socket.ReadAll());
  EXPECT_EQ(reply.status, 431);
  EXPECT_THAT(reply.body, HasSubstr("1000 bytes"));
}

// Its deadline is that of the whole request: bytes that trickle in do not move it.
TEST(HttpServer, ClosesTheConnectionOfAClientThatIsTooSlow) {
  const auto server = StartServer({.timeout = absl::Milliseconds(200)});
  TestSocket silent(server->address());
  TestSocket slow(server->address());
  std::atomic<bool> is_closed = false;
  std::thread trickle([&] {
    while (!is_closed) {
      slow.Send("G");
      absl::SleepFor(absl::Milliseconds(20));  // slow is what it is about
    }
  });
  EXPECT_EQ(silent.ReadAll(), "");
  slow.ReadAll();
  is_closed = true;
  trickle.join();
  EXPECT_EQ(HttpGet(server->address(), "/hello").status, 200);
}

// Who does not read its answer holds a place until the deadline, no longer.
TEST(HttpServer, GivesUpAClientThatDoesNotTakeItsAnswer) {
  const auto server = StartServer({.max_connections = 1, .timeout = absl::Milliseconds(200)});
  TestSocket deaf(server->address());
  deaf.Send("GET /large HTTP/1.1\r\n\r\n");
  EXPECT_EQ(HttpGet(server->address(), "/hello").status, 200);
}

TEST(HttpServer, LetsClientsBeyondItsPlacesWaitUntilOneIsFree) {
  const auto server = StartServer({.max_connections = 2, .timeout = absl::Milliseconds(300)});
  TestSocket first(server->address()), second(server->address());
  std::atomic<int> num_answered = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back(
        [&] { num_answered += HttpGet(server->address(), "/hello").status == 200; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_answered, 8);
}

TEST(HttpServer, StopsWhileClientsAreInTheMiddle) {
  const auto server = StartServer();
  TestSocket silent(server->address());
  TestSocket deaf(server->address());
  deaf.Send("GET /large HTTP/1.1\r\n\r\n");
  ASSERT_EQ(HttpGet(server->address(), "/hello").status, 200);  // it has seen the others
  server->Stop();
  server->Stop();
  EXPECT_EQ(HttpGet(server->address(), "/hello").status, 0);
}

TEST(HttpServer, SaysWhichAddressItCannotHaveAndWhy) {
  const auto first = StartServer();
  const auto start = [](const std::string& address) {
    return HttpServer::Start({.address = address}, Hello).status();
  };
  const absl::Status in_use = start(first->address());
  EXPECT_EQ(in_use.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(in_use.message()), HasSubstr(first->address()));
  EXPECT_THAT(std::string(in_use.message()), HasSubstr("in use"));
  EXPECT_EQ(start("203.0.113.1:0").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(start("no.such.host.invalid:0").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(start("9400").code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace orrery
