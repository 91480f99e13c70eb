#include "exchange/factory/either_channel.h"

#include <cstdint>
#include <utility>

#include "exchange/frame.h"

namespace orrery {

class EitherChannel::Side : public ChannelSink {
 public:
  explicit Side(EitherChannel* owner) : owner_(owner) {}

  void OnOpen() override { owner_->OnOpen(*this); }
  absl::Status OnFrame(std::string frame) override {
    --num_unanswered;
    return owner_->sink_->OnFrame(std::move(frame));
  }
  void OnClosed(const absl::Status& why) override { owner_->OnClosed(*this, why); }

  std::unique_ptr<Channel> channel;
  bool open = false;  // guarded by events_
  // Frames sent since it opened that have no answer. Too many rather than too few: nobody answers
  // what was given up.
  std::atomic<int64_t> num_unanswered = 0;

 private:
  EitherChannel* const owner_;
};

EitherChannel::EitherChannel(const EitherFactories& factories, int peer, Lane lane,
                             ChannelSink* sink)
    : sink_(sink), first_(std::make_unique<Side>(this)), second_(std::make_unique<Side>(this)) {
  std::lock_guard lock(events_);  // they may call before they are stored
  first_->channel = factories.first(peer, lane, first_.get());
  second_->channel = factories.second(peer, lane, second_.get());
}

EitherChannel::~EitherChannel() {
  // Both before either goes: the callbacks of one look at the other.
  Close(absl::CancelledError("the rank closes"));
  first_->channel.reset();
  second_->channel.reset();
}

bool EitherChannel::Send(std::string frame) {
  Side* const side = current_;
  if (side == nullptr) return false;
  if (LooksLikeAbandon(frame)) {
    // What it takes back may have gone the other way, before that changed.
    Side& other = side == first_.get() ? *second_ : *first_;
    if (other.num_unanswered > 0) other.channel->Send(frame);
    return side->channel->Send(std::move(frame));
  }
  ++side->num_unanswered;  // before the answer can come
  return side->channel->Send(std::move(frame));
}

void EitherChannel::Close(const absl::Status& why) {
  first_->channel->Close(why);
  second_->channel->Close(why);
}

// Where something is under way: it may have gone the other way, before that changed.
void EitherChannel::Knock() {
  for (const Side* side : {first_.get(), second_.get()}) {
    if (side->num_unanswered > 0) side->channel->Knock();
  }
}

std::string_view EitherChannel::carrier() const {
  const Side* const side = current_;
  return side == nullptr ? std::string_view() : side->channel->carrier();
}

std::string EitherChannel::carrier_problem() const {
  const Side* const side = current_;
  return side == nullptr ? std::string() : side->channel->carrier_problem();
}

EitherChannel::Side* EitherChannel::Best() const {
  if (first_->open) return first_.get();
  return second_->open ? second_.get() : nullptr;
}

void EitherChannel::OnOpen(Side& side) {
  std::lock_guard lock(events_);
  side.open = true;
  side.num_unanswered = 0;
  const bool was_open = current_ != nullptr;
  current_ = Best();
  if (!was_open) sink_->OnOpen();
}

void EitherChannel::OnClosed(Side& side, const absl::Status& why) {
  std::lock_guard lock(events_);
  side.open = false;
  if (current_ != &side && side.num_unanswered == 0) return;  // nothing was lost with it
  current_ = nullptr;  // no frame is taken until the sink knows of the loss
  sink_->OnClosed(why);
  current_ = Best();
  if (current_ != nullptr) sink_->OnOpen();
}

}  // namespace orrery
