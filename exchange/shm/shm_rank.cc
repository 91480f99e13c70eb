#include "exchange/shm/shm_rank.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "exchange/frame.h"
#include "exchange/rank_endpoint.h"
#include "exchange/shm/poller.h"
#include "exchange/shm/shm_link.h"
#include "exchange/shm/socket.h"

namespace orrery {
namespace {

// To one shard in one lane: one connection at a time. The poller has one thread, so OnReady and
// OnTime never run at a time, and the state changes in them only.
class ShmRankChannel : public Channel, public Poller::Member {
 public:
  ShmRankChannel(const ShmRankOptions& options, int peer, Lane lane, std::shared_ptr<Poller> poller,
                 ChannelSink* sink)
      : options_(options),
        shard_(options.shard_names[peer]),
        lane_(lane),
        log_name_(absl::StrCat(shard_, " (", lane == Lane::kDecode ? "decode" : "bulk",
                               ", shared memory)")),
        poller_(std::move(poller)),
        sink_(sink),
        jitter_(static_cast<uint32_t>(std::hash<std::string>()(options.rank_name + log_name_))) {
    std::lock_guard lock(mutex_);  // its first call waits for id_
    // Not owned by the poller: the destructor takes it back.
    id_ = poller_->Add(std::shared_ptr<Member>(std::shared_ptr<Member>(), this));
  }
  ~ShmRankChannel() override {
    Close(absl::CancelledError("the rank closes"));
    poller_->Remove(id_);
    if (link_ != nullptr) poller_->Unwatch(link_->socket());
  }

  bool Send(std::string frame) override {
    std::shared_ptr<ShmLink> link;
    {
      std::lock_guard lock(mutex_);
      if (state_ != State::kOpen) return false;
      link = link_;
    }
    if (!link->Send(std::move(frame))) return false;
    if (link->stuck_since() != absl::InfiniteFuture()) poller_->Wake();  // for its deadline
    return true;
  }

  void Close(const absl::Status& why) override {
    std::lock_guard lock(mutex_);
    closing_ = true;
    if (link_ != nullptr) link_->End(why);  // OnReady follows
  }

  void Reset(const absl::Status& why) override {
    std::lock_guard lock(mutex_);
    if (link_ != nullptr) link_->End(why);  // OnReady follows
  }

  std::string peer_layer() const override {
    std::lock_guard lock(mutex_);
    return peer_layer_;
  }

  std::string_view carrier() const override {
    std::lock_guard lock(mutex_);
    return state_ == State::kOpen ? "shm" : "";
  }

  void OnReady() override {
    std::shared_ptr<ShmLink> link;
    State state;
    {
      std::lock_guard lock(mutex_);
      link = link_;
      state = state_;
    }
    if (link == nullptr) return;
    ShmLink::Turn turn;
    if (state == State::kOpening) {
      turn.status = AwaitAccepted(*link);
    } else {
      turn = link->TakeTurn(*sink_);
    }
    if (turn.status.ok()) {
      poller_->Watch(id_, link->socket(), turn.again);
    } else {
      Lose(turn.status);
    }
  }

  absl::Time OnTime(absl::Time now) override {
    std::unique_lock lock(mutex_);
    if (state_ == State::kPausing) {
      if (closing_) return absl::InfiniteFuture();
      if (now < open_at_) return open_at_;
      const absl::Status status = Start(now);
      if (status.ok()) return due_at_;
      lock.unlock();
      Lose(status);
      return absl::InfinitePast();
    }
    if (state_ == State::kOpen) due_at_ = link_->stuck_since() + options_.write_timeout;
    if (now < due_at_) return due_at_;
    link_->End(absl::DeadlineExceededError(
        state_ == State::kOpen ? "it takes no frames" : "it does not accept the connection"));
    return absl::InfiniteFuture();  // OnReady follows
  }

 private:
  enum class State { kPausing, kOpening, kOpen };

  absl::Status Start(absl::Time now) {  // the lock is held
    ASSIGN_OR_RETURN(UniqueFd socket, ConnectTo(shard_));
    ASSIGN_OR_RETURN(Segment segment, Segment::Create(kRingBytes));
    Packet hello;
    hello.kind = Packet::Kind::kHello;
    hello.lane = static_cast<uint32_t>(lane_);
    hello.ring_bytes = kRingBytes;
    hello.text = options_.rank_name;
    hello.memory = UniqueFd(::dup(segment.fd()));
    if (!hello.memory.valid()) return SystemError("dup");
    if (!SendPacket(socket.get(), hello)) return absl::UnavailableError("it took no hello");
    link_ = std::make_shared<ShmLink>(std::move(socket), std::move(segment), ShmLink::Side::kRank,
                                      options_.exchange.max_queued_bytes);
    state_ = State::kOpening;
    due_at_ = now + options_.connect_timeout;
    poller_->Watch(id_, link_->socket());
    return absl::OkStatus();
  }

  absl::Status AwaitAccepted(ShmLink& link) {
    ASSIGN_OR_RETURN(const Packet packet, ReceivePacket(link.socket()));
    if (packet.kind == Packet::Kind::kNone) return absl::OkStatus();
    if (packet.kind != Packet::Kind::kAccepted) {
      return absl::UnavailableError(absl::StrCat("refused: ", packet.text));
    }
    {
      std::lock_guard lock(mutex_);
      state_ = State::kOpen;
      num_failures_ = 0;
      peer_layer_ = packet.text;
    }
    LogInfo("exchange: connected to ", log_name_);
    sink_->OnOpen();
    return absl::OkStatus();
  }

  void Lose(const absl::Status& why) {
    std::shared_ptr<ShmLink> link;  // its memory goes outside the lock, once no Send uses it
    bool was_open, tell;
    {
      std::lock_guard lock(mutex_);
      was_open = state_ == State::kOpen;
      state_ = State::kPausing;
      open_at_ = absl::InfiniteFuture();
      link = std::move(link_);
      // Every attempt of a long outage fails alike: the first is told.
      tell = num_failures_++ == 0 && !closing_ && (was_open || !options_.is_optional);
    }
    if (tell) {
      LogWarning("exchange: ", was_open ? "lost " : "cannot reach ", log_name_, ": ",
                 why.ToString());
    }
    if (link != nullptr) {
      poller_->Unwatch(link->socket());
      link->End(why);
    }
    if (was_open) sink_->OnClosed(why);
    {
      std::lock_guard lock(mutex_);
      open_at_ = absl::Now() + NextPause();
    }
    poller_->Wake();
  }

  absl::Duration NextPause() {  // the lock is held
    absl::Duration pause = options_.min_backoff;
    for (int i = 1; i < num_failures_ && pause < options_.max_backoff; ++i) pause *= 2;
    pause = std::min(pause, options_.max_backoff);
    return pause * std::uniform_real_distribution<double>(0.5, 1.0)(jitter_);
  }

  const ShmRankOptions options_;
  const std::string shard_;
  const Lane lane_;
  const std::string log_name_;
  const std::shared_ptr<Poller> poller_;
  ChannelSink* const sink_;
  uint64_t id_ = 0;

  mutable std::mutex mutex_;
  // All guarded by mutex_.
  State state_ = State::kPausing;
  std::shared_ptr<ShmLink> link_;  // null while pausing
  std::string peer_layer_;         // of the current connection, or the last
  bool closing_ = false;
  int num_failures_ = 0;  // since it was last open
  absl::Time open_at_ = absl::InfinitePast();
  absl::Time due_at_ = absl::InfiniteFuture();  // or it counts as lost
  std::minstd_rand jitter_;
};

}  // namespace

absl::StatusOr<ChannelFactory> MakeShmChannels(const ShmRankOptions& options) {
  RETURN_IF_ERROR(CheckExchangeOptions(options.exchange));
  const absl::Duration shortest = std::min(
      {options.write_timeout, options.connect_timeout, options.min_backoff, options.max_backoff});
  if (shortest <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "timeouts and backoffs must be positive, one is ", absl::FormatDuration(shortest)));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<Poller> poller, Poller::Create(/*num_threads=*/1, kShmLookTime));
  return [options, poller = std::move(poller)](int peer, Lane lane, ChannelSink* sink) {
    return std::make_unique<ShmRankChannel>(options, peer, lane, poller, sink);
  };
}

absl::StatusOr<std::unique_ptr<RankExchange>> MakeShmRankExchange(ShmRankOptions options) {
  ASSIGN_OR_RETURN(const ChannelFactory channels, MakeShmChannels(options));
  return std::make_unique<RankEndpoint>(
      options.exchange, static_cast<int>(options.shard_names.size()), channels, kShmLookTime);
}

}  // namespace orrery
