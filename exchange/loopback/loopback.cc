#include "exchange/loopback/loopback.h"

#include <array>
#include <mutex>
#include <utility>
#include <vector>

#include "exchange/rank_endpoint.h"
#include "exchange/shard_endpoint.h"

namespace orrery {
namespace {

constexpr int kNoStreamLimit = 1 << 20;  // connections are made here, not by strangers

// One connection between a rank's sink and a shard's; cut at most once.
class Connection {
 public:
  explicit Connection(ChannelSink* rank_sink) : rank_sink_(rank_sink) {}

  void Open(std::shared_ptr<ChannelSink> shard_sink) {
    {
      std::lock_guard lock(mutex_);
      shard_sink_ = std::move(shard_sink);
      open_ = true;
    }
    rank_sink_->OnOpen();
  }

  bool SendToShard(std::string frame) {
    const std::shared_ptr<ChannelSink> sink = ShardSinkIfOpen();
    if (sink == nullptr) return false;
    const absl::Status status = sink->OnFrame(std::move(frame));
    if (!status.ok()) Cut(status);
    return true;  // accepted; if the connection was cut, OnClosed has said so
  }

  bool SendToRank(std::string frame) {
    if (ShardSinkIfOpen() == nullptr) return false;
    const absl::Status status = rank_sink_->OnFrame(std::move(frame));
    if (!status.ok()) Cut(status);
    return true;
  }

  void Cut(const absl::Status& why) {
    std::shared_ptr<ChannelSink> shard_sink;
    {
      std::lock_guard lock(mutex_);
      if (!open_) return;
      open_ = false;
      shard_sink = std::move(shard_sink_);
    }
    rank_sink_->OnClosed(why);
    shard_sink->OnClosed(why);
  }

 private:
  std::shared_ptr<ChannelSink> ShardSinkIfOpen() {
    std::lock_guard lock(mutex_);
    return open_ ? shard_sink_ : nullptr;
  }

  ChannelSink* const rank_sink_;
  std::mutex mutex_;
  bool open_ = false;
  std::shared_ptr<ChannelSink> shard_sink_;
};

class ShardChannel : public Channel {
 public:
  explicit ShardChannel(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)) {}
  bool Send(std::string frame) override { return connection_->SendToRank(std::move(frame)); }
  void Close(const absl::Status& why) override { connection_->Cut(why); }

 private:
  const std::shared_ptr<Connection> connection_;
};

class RankChannel : public Channel {
 public:
  RankChannel(ShardEndpoint* shard, Lane lane, ChannelSink* sink)
      : shard_(shard), lane_(lane), sink_(sink) {
    Connect();
  }
  ~RankChannel() override { Close(absl::CancelledError("the rank is gone")); }

  bool Send(std::string frame) override {
    const std::shared_ptr<Connection> connection = Current();
    return connection != nullptr && connection->SendToShard(std::move(frame));
  }
  void Close(const absl::Status& why) override {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    Disconnect(why);
  }

  void Disconnect(const absl::Status& why) {
    if (const std::shared_ptr<Connection> connection = Current()) connection->Cut(why);
  }
  void Connect() {
    Disconnect(absl::UnavailableError("connected anew"));
    auto connection = std::make_shared<Connection>(sink_);
    absl::StatusOr<std::shared_ptr<ChannelSink>> shard_sink =
        shard_->Connect(lane_, std::make_shared<ShardChannel>(connection));
    if (!shard_sink.ok()) return;  // the shard is closed
    {
      std::lock_guard lock(mutex_);
      if (closed_) {
        (*shard_sink)->OnClosed(absl::CancelledError("the rank is gone"));
        return;
      }
      connection_ = connection;
    }
    connection->Open(*std::move(shard_sink));
  }

 private:
  std::shared_ptr<Connection> Current() {
    std::lock_guard lock(mutex_);
    return connection_;
  }

  ShardEndpoint* const shard_;
  const Lane lane_;
  ChannelSink* const sink_;
  std::mutex mutex_;
  bool closed_ = false;
  std::shared_ptr<Connection> connection_;
};

class LoopbackHub : public Loopback {
 public:
  LoopbackHub(LoopbackSize size, const ExchangeOptions& rank_options,
              const ExchangeOptions& shard_options)
      : channels_(size.num_shards) {
    for (int shard = 0; shard < size.num_shards; ++shard) {
      shards_.push_back(std::make_unique<ShardEndpoint>(shard_options, kNoStreamLimit));
    }
    for (int rank = 0; rank < size.num_ranks; ++rank) {
      ranks_.push_back(std::make_unique<RankEndpoint>(
          rank_options, size.num_shards, [this](int peer, Lane lane, ChannelSink* sink) {
            auto channel = std::make_unique<RankChannel>(shards_[peer].get(), lane, sink);
            channels_[peer].push_back(channel.get());
            return channel;
          }));
    }
  }

  RankExchange& rank(int rank) override { return *ranks_[rank]; }
  ShardExchange& shard(int shard) override { return *shards_[shard]; }
  void DisconnectShard(int shard) override {
    for (RankChannel* channel : channels_[shard]) {
      channel->Disconnect(absl::UnavailableError("disconnected"));
    }
  }
  void ReconnectShard(int shard) override {
    for (RankChannel* channel : channels_[shard]) channel->Connect();
  }

 private:
  std::vector<std::unique_ptr<ShardEndpoint>> shards_;
  std::vector<std::vector<RankChannel*>> channels_;   // [shard]; owned by the ranks
  std::vector<std::unique_ptr<RankEndpoint>> ranks_;  // last: their channels end at the shards
};

}  // namespace

absl::StatusOr<std::unique_ptr<Loopback>> Loopback::Create(LoopbackSize size,
                                                           const ExchangeOptions& options) {
  return Create(size, options, options);
}

absl::StatusOr<std::unique_ptr<Loopback>> Loopback::Create(LoopbackSize size,
                                                           const ExchangeOptions& rank_options,
                                                           const ExchangeOptions& shard_options) {
  RETURN_IF_ERROR(CheckExchangeOptions(rank_options));
  RETURN_IF_ERROR(CheckExchangeOptions(shard_options));
  return std::make_unique<LoopbackHub>(size, rank_options, shard_options);
}

}  // namespace orrery
