#include "rpc/monitoring/http_server.h"

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/core/tcp_stream.hpp"
#include "boost/beast/http.hpp"
#include "rpc/address.h"

namespace orrery {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// Before another try when the system has no descriptor left for a connection.
constexpr std::chrono::milliseconds kAcceptPause(100);
constexpr int kBacklog = 64;

class Connection;

class BeastServer : public HttpServer {
 public:
  BeastServer(const HttpServerOptions& options, Handler handler)
      : options_(options),
        timeout_(absl::ToChronoMilliseconds(options.timeout)),
        handler_(std::move(handler)) {}
  ~BeastServer() override { Stop(); }

  absl::Status Listen();
  const std::string& address() const override { return address_; }
  void Stop() override;

 private:
  friend class Connection;

  void Accept();
  void OnClosed();

  const HttpServerOptions options_;
  const std::chrono::milliseconds timeout_;
  const Handler handler_;
  std::string address_;
  std::atomic<bool> stopping_ = false;
  // The thread's.
  int num_connections_ = 0;
  bool is_accepting_ = false;

  asio::io_context context_{1};  // below what its last handlers use
  tcp::acceptor acceptor_{context_};
  asio::steady_timer pause_{context_};
  std::thread thread_;
};

// One request and its answer. Everyone who may still call it shares it: the operations under way.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, BeastServer* server)
      : server_(server), stream_(std::move(socket)), buffer_(server->options_.max_header_bytes) {}
  ~Connection() { server_->OnClosed(); }

  void Run() {
    parser_.header_limit(server_->options_.max_header_bytes);
    stream_.expires_after(server_->timeout_);
    http::async_read_header(
        stream_, buffer_, parser_,
        [self = shared_from_this()](error_code error, size_t) { self->OnHeader(error); });
  }

 private:
  void OnHeader(error_code error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      return Answer({.status = 431,
                     .body = absl::StrCat("the header has more than ",
                                          server_->options_.max_header_bytes, " bytes\n")});
    }
    if (error.category() == http::make_error_code(http::error::bad_method).category() &&
        error != http::error::end_of_stream && error != http::error::partial_message) {
      return Answer({.status = 400, .body = absl::StrCat("no HTTP: ", error.message(), "\n")});
    }
    if (error) return;  // it left, or is late
    const auto& request = parser_.get();
    if (request.method() != http::verb::get) {
      response_.set(http::field::allow, "GET");
      return Answer({.status = 405, .body = "only GET is answered here\n"});
    }
    const std::string_view target(request.target().data(), request.target().size());
    Answer(server_->handler_(target.substr(0, target.find('?'))));
  }

  void Answer(HttpAnswer answer) {
    response_.result(static_cast<unsigned>(answer.status));
    response_.set(http::field::content_type, answer.content_type);
    response_.body() = std::move(answer.body);
    response_.keep_alive(false);
    response_.prepare_payload();
    stream_.expires_after(server_->timeout_);
    http::async_write(stream_, response_, [self = shared_from_this()](error_code error, size_t) {
      self->OnAnswered(error);
    });
  }

  void OnAnswered(error_code error) {
    if (error) return;
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    Drain();
  }

  // Closing a socket with unread bytes in it would take the answer back. Until the client closes, or the
  // deadline of the answer.
  void Drain() {
    stream_.async_read_some(asio::buffer(unread_),
                            [self = shared_from_this()](error_code error, size_t) {
                              if (!error) self->Drain();
                            });
  }

  BeastServer* const server_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  http::request_parser<http::empty_body> parser_;
  http::response<http::string_body> response_;
  std::array<char, 1024> unread_;
};

absl::Status BeastServer::Listen() {
  ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options_.address));
  const auto failed = [&](const error_code& error) {
    const std::string what =
        absl::StrCat("cannot listen on ", JoinHostPort(address), " for monitoring: ");
    if (error == asio::error::address_in_use) {
      return absl::AlreadyExistsError(
          absl::StrCat(what, "the address is in use by another process"));
    }
    if (error == boost::system::errc::address_not_available) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, "this machine does not have the address"));
    }
    return absl::UnavailableError(absl::StrCat(what, error.message()));
  };
  error_code error;
  const auto found = tcp::resolver(context_).resolve(address.host, std::to_string(address.port),
                                                     tcp::resolver::passive, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", JoinHostPort(address),
                                                   " for monitoring: ", error.message()));
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(kBacklog, error);
  if (error) return failed(error);
  address.port = acceptor_.local_endpoint(error).port();
  address_ = JoinHostPort(address);
  Accept();
  thread_ = std::thread([this] { context_.run(); });
  return absl::OkStatus();
}

void BeastServer::Accept() {
  if (is_accepting_ || num_connections_ >= options_.max_connections) return;
  is_accepting_ = true;
  acceptor_.async_accept([this](error_code error, tcp::socket socket) {
    is_accepting_ = false;
    if (stopping_) return;
    if (!error) {
      ++num_connections_;
      std::make_shared<Connection>(std::move(socket), this)->Run();
      return Accept();
    }
    is_accepting_ = true;
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([this](error_code) {
      is_accepting_ = false;
      if (!stopping_) Accept();
    });
  });
}

void BeastServer::OnClosed() {
  --num_connections_;
  if (!stopping_) Accept();
}

void BeastServer::Stop() {
  stopping_ = true;
  context_.stop();
  if (thread_.joinable()) thread_.join();
  error_code ignored;
  acceptor_.close(ignored);
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              Handler handler) {
  auto server = std::make_unique<BeastServer>(options, std::move(handler));
  RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace orrery
