#include "exchange/shm/shm_listener.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "exchange/shm/look_time.h"
#include "exchange/shm/shm_link.h"
#include "exchange/shm/socket.h"

namespace orrery {
namespace {

constexpr int kNumThreads = 2;
constexpr absl::Duration kAcceptPause = absl::Milliseconds(200);  // when the system has no room

}  // namespace

// One connection of a rank in one lane, from its hello to its end. The endpoint may keep it longer
// than the listener does; from then on it leads nowhere.
class ShmListener::Connection : public Poller::Member,
                                public Channel,
                                public std::enable_shared_from_this<Connection> {
 public:
  Connection(ShmListener* listener, UniqueFd socket, absl::Time give_up_at)
      : give_up_at(give_up_at),
        listener_(listener),
        fd_(socket.get()),
        socket_(std::move(socket)) {}

  void Start(uint64_t id) {
    id_ = id;
    listener_->poller_->Watch(id_, fd_);
  }

  bool Send(std::string frame) override {
    const std::shared_ptr<ShmLink> link = Link();
    return link != nullptr && link->Send(std::move(frame));
  }
  void Close(const absl::Status& why) override {
    if (const std::shared_ptr<ShmLink> link = Link()) {
      link->End(why);
    } else {
      ShutDown(fd_);
    }
  }

  void OnReady() override {
    const std::shared_ptr<ShmLink> link = Link();
    if (link == nullptr) {
      const absl::Status status = Greet();
      if (!status.ok()) Finish(status);
      return;
    }
    const ShmLink::Turn turn = link->TakeTurn(*sink_);
    if (!turn.status.ok()) {
      Finish(turn.status);
      return;
    }
    // From here on the other thread may bring this connection's next frame.
    const std::shared_ptr<ShardEndpoint> endpoint = listener_->endpoint_;
    listener_->poller_->Watch(id_, fd_, turn.again);
    if (turn.brought) endpoint->Arrived();
  }

  bool greeted() const { return Link() != nullptr; }

  // No thread uses it any more, or this is the one that does.
  void OnGone(const absl::Status& why) {
    Close(why);
    if (const std::shared_ptr<ChannelSink> sink = std::move(sink_)) sink->OnClosed(why);
  }

  const absl::Time give_up_at;

 private:
  std::shared_ptr<ShmLink> Link() const {
    std::lock_guard lock(mutex_);
    return link_;
  }

  absl::Status Greet() {
    ASSIGN_OR_RETURN(Packet hello, ReceivePacket(fd_));
    if (hello.kind != Packet::Kind::kNone) {
      const absl::Status status = Accept(std::move(hello));
      if (!status.ok()) {
        Packet end;
        end.kind = Packet::Kind::kEnd;
        end.code = static_cast<uint32_t>(status.code());
        end.text = std::string(status.message());
        SendPacket(fd_, end);
        return status;
      }
    }
    listener_->poller_->Watch(id_, fd_);
    return absl::OkStatus();
  }

  absl::Status Accept(Packet hello) {
    if (hello.kind != Packet::Kind::kHello || hello.lane >= kNumLanes || !hello.memory.valid()) {
      return absl::InvalidArgumentError(absl::StrCat("not a hello with memory: packet of kind ",
                                                     static_cast<uint32_t>(hello.kind), ", lane ",
                                                     hello.lane));
    }
    if (!listener_->accepting_) return absl::UnavailableError("the shard is not ready yet");
    ASSIGN_OR_RETURN(Segment segment, Segment::Map(std::move(hello.memory), hello.ring_bytes));
    rank_name_ = hello.text;
    {
      std::lock_guard lock(mutex_);
      link_ =
          std::make_shared<ShmLink>(std::move(socket_), std::move(segment), ShmLink::Side::kShard,
                                    listener_->options_.exchange.max_queued_bytes);
    }
    ChannelLayer* const layer = listener_->options_.layer;
    const Lane lane = static_cast<Lane>(hello.lane);
    ASSIGN_OR_RETURN(sink_, layer == nullptr
                                ? listener_->endpoint_->Connect(lane, shared_from_this())
                                : layer->Connect(*listener_->endpoint_, lane, shared_from_this()));
    Packet accepted;
    accepted.kind = Packet::Kind::kAccepted;
    if (layer != nullptr) accepted.text = layer->terms();
    SendPacket(fd_, accepted);
    return absl::OkStatus();
  }

  void Finish(const absl::Status& why) {
    if (!absl::IsUnavailable(why) && !absl::IsCancelled(why)) {
      LogWarning("exchange: ", rank_name_.empty() ? "a rank" : rank_name_,
                 " over shared memory: ", why.ToString());
    }
    listener_->poller_->Unwatch(fd_);
    OnGone(why);
    listener_->Drop(id_);
  }

  ShmListener* const listener_;  // outlives its poller's calls, and Send and Close do not need it
  const int fd_;                 // of socket_, later of link_
  uint64_t id_ = 0;
  // Only for OnReady, which comes one at a time.
  UniqueFd socket_;
  std::string rank_name_;
  std::shared_ptr<ChannelSink> sink_;

  mutable std::mutex mutex_;
  std::shared_ptr<ShmLink> link_;  // guarded by mutex_; stays to the end, and with it the socket
};

// Where they come in.
class ShmListener::Door : public Poller::Member {
 public:
  Door(ShmListener* listener, UniqueFd socket) : listener_(listener), socket_(std::move(socket)) {}

  void Start(uint64_t id) {
    id_ = id;
    listener_->poller_->Watch(id_, socket_.get());
  }
  void OnReady() override {
    absl::StatusOr<UniqueFd> socket = AcceptFrom(socket_.get());
    if (!socket.ok() && !absl::IsPermissionDenied(socket.status())) {
      LogWarning(socket.status().ToString());
      {
        std::lock_guard lock(mutex_);
        again_at_ = absl::Now() + kAcceptPause;
      }
      listener_->poller_->Wake();
      return;
    }
    if (socket.ok() && socket->valid()) listener_->Admit(*std::move(socket));
    listener_->poller_->Watch(id_, socket_.get());
  }
  absl::Time OnTime(absl::Time now) override {
    const absl::Time next = listener_->SendIdlersAway(now);
    std::lock_guard lock(mutex_);
    if (again_at_ <= now) {
      again_at_ = absl::InfiniteFuture();
      listener_->poller_->Watch(id_, socket_.get());
    }
    return std::min(next, again_at_);
  }

 private:
  ShmListener* const listener_;
  const UniqueFd socket_;
  std::atomic<uint64_t> id_ = 0;
  std::mutex mutex_;
  absl::Time again_at_ = absl::InfiniteFuture();  // guarded by mutex_
};

absl::StatusOr<std::unique_ptr<ShmListener>> ShmListener::Listen(
    const ShmShardOptions& options, std::shared_ptr<ShardEndpoint> endpoint) {
  ASSIGN_OR_RETURN(UniqueFd socket, ListenAt(options.name));
  std::unique_ptr<ShmListener> listener(new ShmListener(options, std::move(endpoint)));
  ASSIGN_OR_RETURN(listener->poller_, Poller::Create(kNumThreads, kShmLookTime));
  auto door = std::make_shared<Door>(listener.get(), std::move(socket));
  door->Start(listener->poller_->Add(door));
  return listener;
}

ShmListener::~ShmListener() {
  // Stops the threads while the pointer to it is still good for calls that run.
  if (poller_ != nullptr) poller_->Stop();
  for (const auto& [id, connection] : connections_) {
    connection->OnGone(absl::UnavailableError("the shard is stopping"));
  }
}

void ShmListener::Admit(UniqueFd socket) {
  auto connection =
      std::make_shared<Connection>(this, std::move(socket), absl::Now() + options_.hello_timeout);
  uint64_t id;
  {
    std::lock_guard lock(mutex_);
    // The endpoint counts those that are open; so many again may be on their way.
    if (connections_.size() >= 2 * static_cast<size_t>(options_.max_streams)) return;
    id = poller_->Add(connection);
    connections_[id] = connection;
  }
  connection->Start(id);
}

void ShmListener::Drop(uint64_t id) {
  std::shared_ptr<Connection> connection;  // let go of outside the lock
  poller_->Forget(id);
  std::lock_guard lock(mutex_);
  const auto place = connections_.find(id);
  if (place == connections_.end()) return;
  connection = std::move(place->second);
  connections_.erase(place);
}

absl::Time ShmListener::SendIdlersAway(absl::Time now) {
  std::vector<std::shared_ptr<Connection>> idlers;
  absl::Time next = absl::InfiniteFuture();
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, connection] : connections_) {
      if (connection->greeted()) continue;
      if (connection->give_up_at <= now) {
        idlers.push_back(connection);
      } else {
        next = std::min(next, connection->give_up_at);
      }
    }
  }
  for (const auto& connection : idlers) {
    connection->Close(absl::DeadlineExceededError("no hello came"));
  }
  return next;
}

}  // namespace orrery
