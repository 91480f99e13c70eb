#include "tools/bench/bare_stream/bare_stream.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "exchange/exchange.h"
#include "grpcpp/generic/generic_stub.h"
#include "rpc/channel.h"
#include "rpc/status.h"

namespace orrery {
namespace {

using grpc::ByteBuffer;

constexpr char kMethod[] = "/orrery.internal.Expert/Exchange";
constexpr absl::Duration kTimeout = absl::Seconds(10);

grpc::Slice Zeros(size_t size) {
  static const auto& zeros = *new std::vector<char>(kMaxFrameBytes);
  return grpc::Slice(zeros.data(), std::min(size, zeros.size()), grpc::Slice::STATIC_SLICE);
}

// The first bytes, which may come in pieces.
bool ReadSize(const ByteBuffer& buffer, uint64_t& size) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return false;
  size_t done = 0;
  for (const grpc::Slice& slice : slices) {
    const size_t part = std::min(slice.size(), sizeof(size) - done);
    std::memcpy(reinterpret_cast<char*>(&size) + done, slice.begin(), part);
    done += part;
  }
  return done == sizeof(size);
}

class EchoReactor : public grpc::ServerBidiReactor<ByteBuffer, ByteBuffer> {
 public:
  EchoReactor() { StartRead(&in_); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    uint64_t size = 0;
    if (!ReadSize(in_, size)) {
      return Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no size"));
    }
    const grpc::Slice answer = Zeros(size);
    out_ = ByteBuffer(&answer, 1);
    StartWrite(&out_);
  }
  void OnWriteDone(bool ok) override {
    if (ok) StartRead(&in_);
  }
  void OnDone() override { delete this; }

 private:
  ByteBuffer in_, out_;
};

class BareStreamImpl : public BareStream, public grpc::ClientBidiReactor<ByteBuffer, ByteBuffer> {
 public:
  explicit BareStreamImpl(std::shared_ptr<grpc::Channel> channel)
      : channel_(std::move(channel)), stub_(channel_) {
    context_.set_wait_for_ready(true);
    stub_.PrepareBidiStreamingCall(&context_, kMethod, {}, this);
    AddHold();
    StartRead(&in_);
    StartCall();
  }
  ~BareStreamImpl() override {
    context_.TryCancel();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
  }

  absl::StatusOr<absl::Duration> RoundTrip(const Sizes& sizes) override {
    const uint64_t size = sizes.bytes_back;
    const std::array<grpc::Slice, 2> slices = {grpc::Slice(&size, sizeof(size)),
                                               Zeros(sizes.bytes_out - sizeof(size))};
    std::unique_lock lock(mutex_);
    // The last write may have been answered before we hear that it is done.
    if (!Wait(lock, [this] { return !writing_; })) return Broken(lock);
    out_ = ByteBuffer(slices.data(), slices.size());
    arrived_ = false;
    writing_ = true;
    const absl::Time begin = absl::Now();
    lock.unlock();
    StartWrite(&out_);
    lock.lock();
    if (!Wait(lock, [this] { return arrived_; })) return Broken(lock);
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
  void OnDone(const grpc::Status& status) override {
    std::lock_guard lock(mutex_);
    done_ = true;
    why_ = FromGrpcStatus(status);
    changed_.notify_one();
  }

 private:
  template <typename Predicate>
  bool Wait(std::unique_lock<std::mutex>& lock, Predicate predicate) {
    return changed_.wait_for(lock, absl::ToChronoNanoseconds(kTimeout), [&] {
      return broken_ || predicate();
    }) && !broken_;
  }
  absl::Status Broken(std::unique_lock<std::mutex>& lock) {
    context_.TryCancel();
    changed_.wait(lock, [this] { return done_; });
    return absl::UnavailableError(absl::StrCat("the bare stream broke: ", why_.ToString()));
  }

  const std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  ByteBuffer in_, out_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool arrived_ = false, writing_ = false, broken_ = false, done_ = false;
  absl::Status why_;
};

}  // namespace

grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>* BareEchoService::Exchange(
    grpc::CallbackServerContext*) {
  return new EchoReactor();  // deletes itself
}

absl::StatusOr<std::unique_ptr<BareStream>> BareStream::Open(const std::string& address,
                                                             bool local_socket) {
  std::shared_ptr<grpc::Channel> channel;
  if (local_socket) {
    channel = MakeLocalChannel(address, {.own_connection = true});
  } else {
    ASSIGN_OR_RETURN(channel, MakeChannel(address, {}, {.own_connection = true}));
  }
  auto stream = std::make_unique<BareStreamImpl>(std::move(channel));
  RETURN_IF_ERROR(stream->RoundTrip({.bytes_out = 8, .bytes_back = 8}).status());
  return stream;
}

}  // namespace orrery
