#include "tools/bench/step/stream_echo.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/expert.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/server.h"

namespace orrery {
namespace {

using internal::Frame;

constexpr absl::Duration kTimeout = absl::Seconds(10);

// Answers each frame with as many bytes as its first digits say.
class EchoService : public internal::Expert::CallbackService {
 public:
  grpc::ServerBidiReactor<Frame, Frame>* Exchange(grpc::CallbackServerContext*) override {
    return new Stream();  // deletes itself
  }

 private:
  class Stream : public grpc::ServerBidiReactor<Frame, Frame> {
   public:
    Stream() { StartRead(&in_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      size_t size = 0;
      const std::string& payload = in_.payload();
      if (!absl::SimpleAtoi(payload.substr(0, payload.find(' ')), &size)) {
        return Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no size"));
      }
      out_.mutable_payload()->assign(size, 'b');
      StartWrite(&out_);
    }
    void OnWriteDone(bool ok) override {
      if (ok) StartRead(&in_);
    }
    void OnDone() override { delete this; }

   private:
    Frame in_, out_;
  };
};

class Client : public grpc::ClientBidiReactor<Frame, Frame> {
 public:
  explicit Client(std::shared_ptr<grpc::Channel> channel)
      : channel_(std::move(channel)), stub_(internal::Expert::NewStub(channel_)) {
    stub_->async()->Exchange(&context_, this);
    AddHold();
    StartRead(&in_);
    StartCall();
  }
  ~Client() override {
    context_.TryCancel();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, absl::ToChronoSeconds(kTimeout), [this] { return done_; });
  }

  absl::StatusOr<absl::Duration> RoundTrip(const StreamEcho::Sizes& sizes) {
    std::string payload = absl::StrCat(sizes.bytes_back, " ");
    payload.resize(std::max(payload.size(), sizes.bytes_out), 'a');
    std::unique_lock lock(mutex_);
    // One write at a time, and out_ is its own until then: the last one may have been answered before
    // we hear that it is done.
    changed_.wait_for(lock, absl::ToChronoSeconds(kTimeout),
                      [this] { return !writing_ || broken_; });
    if (writing_ || broken_) return absl::UnavailableError("the stream broke");
    out_.set_payload(std::move(payload));
    arrived_ = false;
    writing_ = true;
    const absl::Time begin = absl::Now();
    StartWrite(&out_);
    changed_.wait_for(lock, absl::ToChronoSeconds(kTimeout),
                      [this] { return arrived_ || broken_; });
    if (!arrived_) return absl::UnavailableError("the stream broke");
    return absl::Now() - begin;
  }

  void OnReadDone(bool ok) override {
    {
      std::lock_guard lock(mutex_);
      (ok ? arrived_ : broken_) = true;
    }
    changed_.notify_one();
    if (ok) {
      StartRead(&in_);
    } else {
      RemoveHold();
    }
  }
  void OnWriteDone(bool) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    changed_.notify_one();
  }
  void OnDone(const grpc::Status&) override {
    std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_one();
  }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<internal::Expert::Stub> stub_;
  grpc::ClientContext context_;
  Frame in_, out_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool arrived_ = false, writing_ = false, broken_ = false, done_ = false;
};

class StreamEchoImpl : public StreamEcho {
 public:
  absl::Status Open() {
    ASSIGN_OR_RETURN(server_, Server::Start({.address = "127.0.0.1:0"}, {&service_}));
    ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, MakeChannel(server_->address(), {}));
    client_ = std::make_unique<Client>(std::move(channel));
    return absl::OkStatus();
  }
  ~StreamEchoImpl() override {
    client_.reset();
    if (server_ != nullptr) server_->Stop(absl::Now() + absl::Milliseconds(100));
  }
  absl::StatusOr<absl::Duration> RoundTrip(const Sizes& sizes) override {
    return client_->RoundTrip(sizes);
  }

 private:
  EchoService service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamEcho>> StreamEcho::Start() {
  auto echo = std::make_unique<StreamEchoImpl>();
  RETURN_IF_ERROR(echo->Open());
  return echo;
}

}  // namespace orrery
