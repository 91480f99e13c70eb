#include "exchange/shard_endpoint.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "exchange/wait.h"

namespace orrery {

// One rank's connection in one lane.
class ShardEndpoint::Stream : public ChannelSink, public std::enable_shared_from_this<Stream> {
 public:
  Stream(ShardEndpoint* endpoint, Lane lane, std::shared_ptr<Channel> channel)
      : lane(lane), channel(std::move(channel)), endpoint_(endpoint) {}

  void OnOpen() override {}
  absl::Status OnFrame(std::string frame) override {
    return endpoint_->OnFrame(shared_from_this(), std::move(frame));
  }
  void OnClosed(const absl::Status&) override { endpoint_->OnClosed(shared_from_this()); }

  const Lane lane;
  // Guarded by the endpoint's mutex. The channel is null once closed: it and its sink own each
  // other until then.
  std::shared_ptr<Channel> channel;
  size_t held_bytes = 0;

 private:
  ShardEndpoint* const endpoint_;
};

ShardEndpoint::ShardEndpoint(const ExchangeOptions& options, int max_streams)
    : options_(options),
      numerics_hash_(NumericsHash(options.numerics_id)),
      max_streams_(max_streams) {}

ShardEndpoint::~ShardEndpoint() { Close(); }

absl::StatusOr<std::shared_ptr<ChannelSink>> ShardEndpoint::Connect(
    Lane lane, std::shared_ptr<Channel> channel) {
  std::lock_guard lock(mutex_);
  if (closed_) return absl::UnavailableError("the shard is stopping");
  if (streams_.size() >= max_streams_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the shard has all ", max_streams_, " streams open"));
  }
  auto stream = std::make_shared<Stream>(this, lane, std::move(channel));
  streams_.insert(stream);
  return stream;
}

absl::Status ShardEndpoint::OnFrame(const std::shared_ptr<Stream>& stream, std::string bytes) {
  auto inbound = std::make_unique<Inbound>();
  inbound->bytes = std::move(bytes);
  ASSIGN_OR_RETURN(DispatchView view, ParseDispatch(std::string_view(inbound->bytes)));
  if (view.header.lane != stream->lane) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed frame: lane ", static_cast<int>(view.header.lane),
                     " in the channel of lane ", static_cast<int>(stream->lane)));
  }
  inbound->header = view.header;
  inbound->frame = {.layer = static_cast<int>(view.header.layer),
                    .lane = view.header.lane,
                    .entries = std::move(view.entries),
                    .num_rows = static_cast<int>(view.header.num_rows),
                    .rows = view.rows};
  inbound->stream = stream;
  const size_t num_entries = inbound->frame.entries.size();
  const bool usable =
      view.header.numerics_hash == numerics_hash_ && view.header.row_bytes == options_.row_bytes &&
      ReplyRowsOffset(num_entries) + num_entries * options_.result_bytes <= kMaxFrameBytes;
  if (usable) return Enqueue(std::move(inbound));
  std::shared_ptr<Channel> channel;
  {
    std::lock_guard lock(mutex_);
    channel = stream->channel;
  }
  const std::vector<EntryState> refused(num_entries, EntryState::kRefused);
  if (channel) channel->Send(EncodeReply(view.header, refused, options_.result_bytes, nullptr));
  return absl::OkStatus();
}

absl::Status ShardEndpoint::Enqueue(std::unique_ptr<Inbound> inbound) {
  std::lock_guard lock(mutex_);
  Stream& stream = *inbound->stream;
  if (stream.channel == nullptr) return absl::UnavailableError("the connection is closed");
  if (stream.held_bytes + inbound->bytes.size() > options_.max_queued_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the shard's inbox holds ", stream.held_bytes,
                                                     " bytes of this rank, the limit is ",
                                                     options_.max_queued_bytes));
  }
  stream.held_bytes += inbound->bytes.size();
  inbox_[static_cast<int>(stream.lane)].push_back(std::move(inbound));
  arrived_.notify_one();
  return absl::OkStatus();
}

void ShardEndpoint::OnClosed(const std::shared_ptr<Stream>& stream) {
  std::shared_ptr<Channel> channel;  // let go of outside the lock
  std::lock_guard lock(mutex_);
  channel = std::move(stream->channel);
  streams_.erase(stream);
  std::erase_if(inbox_[static_cast<int>(stream->lane)],
                [&](const auto& inbound) { return inbound->stream == stream; });
}

std::optional<InboundFrame> ShardEndpoint::Receive(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  const auto next_lane = [&]() -> std::deque<std::unique_ptr<Inbound>>* {
    for (auto& lane : inbox_) {
      if (!lane.empty()) return &lane;
    }
    return nullptr;
  };
  WaitUntil(arrived_, lock, deadline, [&] { return closed_ || next_lane() != nullptr; });
  std::deque<std::unique_ptr<Inbound>>* lane = next_lane();
  if (closed_ || lane == nullptr) return std::nullopt;
  std::unique_ptr<Inbound> inbound = std::move(lane->front());
  lane->pop_front();
  inbound->frame.reply_to = next_reply_to_++;
  InboundFrame frame = std::move(inbound->frame);
  received_[frame.reply_to] = std::move(inbound);
  return frame;
}

void ShardEndpoint::Reply(const InboundFrame& frame, absl::Span<const EntryState> states,
                          absl::Span<const std::byte> results) {
  ORRERY_CHECK(states.size() == frame.entries.size() &&
               results.size() >= states.size() * options_.result_bytes)
      << states.size() << " states and " << results.size() << " bytes of results for "
      << frame.entries.size() << " entries";
  std::unique_ptr<Inbound> inbound;
  std::shared_ptr<Channel> channel;
  {
    std::lock_guard lock(mutex_);
    const auto place = received_.find(frame.reply_to);
    ORRERY_CHECK(place != received_.end()) << "frame " << frame.reply_to << " has been answered";
    inbound = std::move(place->second);
    received_.erase(place);
    inbound->stream->held_bytes -= inbound->bytes.size();
    channel = inbound->stream->channel;
  }
  if (channel == nullptr) return;  // the rank is gone
  std::string bytes = EncodeReply(inbound->header, states, options_.result_bytes, results.data());
  if (!channel->Send(std::move(bytes))) {
    channel->Close(absl::ResourceExhaustedError(absl::StrCat(
        "the rank does not read: its replies exceed ", options_.max_queued_bytes, " bytes")));
  }
}

void ShardEndpoint::Close() {
  std::vector<std::shared_ptr<Channel>> channels;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    for (const std::shared_ptr<Stream>& stream : streams_) channels.push_back(stream->channel);
    for (auto& lane : inbox_) lane.clear();
    arrived_.notify_all();
  }
  for (const auto& channel : channels)
    channel->Close(absl::UnavailableError("the shard is stopping"));
}

}  // namespace orrery
