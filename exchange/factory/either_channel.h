// A rank's channel to one shard in one lane over two transports: the first wherever it is open, the
// second while it is not.
//
//   EitherChannel channel({.first = shm, .second = grpc}, peer, lane, sink);
//
// Both connect by themselves and stay, so that the loss of one is followed by the other at once. A
// loss of the one in use, or with frames under way on it, is a loss to the sink; OnOpen follows if
// the other one stands. When the first opens beside the second, frames change over without an
// event: what is under way on the second still arrives, and abandoning it goes there, too.
//
// Internal to exchange/factory.
// Threads: as exchange/channel.h says. One event at a time reaches the sink.
#ifndef ORRERY_EXCHANGE_FACTORY_EITHER_CHANNEL_H_
#define ORRERY_EXCHANGE_FACTORY_EITHER_CHANNEL_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "exchange/channel.h"

namespace orrery {

struct EitherFactories {
  ChannelFactory first;
  ChannelFactory second;
};

class EitherChannel : public Channel {
 public:
  EitherChannel(const EitherFactories& factories, int peer, Lane lane, ChannelSink* sink);
  ~EitherChannel() override;

  bool Send(std::string frame) override;
  void Close(const absl::Status& why) override;
  void Knock() override;
  std::string_view carrier() const override;
  std::string carrier_problem() const override;

 private:
  class Side;

  void OnOpen(Side& side);
  void OnClosed(Side& side, const absl::Status& why);
  Side* Best() const;

  ChannelSink* const sink_;
  std::atomic<Side*> current_ = nullptr;  // null while neither is open
  std::mutex events_;                     // held while the sink learns of one
  const std::unique_ptr<Side> first_;
  const std::unique_ptr<Side> second_;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_FACTORY_EITHER_CHANNEL_H_
