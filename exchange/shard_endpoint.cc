#include "exchange/shard_endpoint.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "exchange/wait.h"

namespace orrery {

// One rank's connection in one lane.
class ShardEndpoint::Stream : public ChannelSink {
 public:
  Stream(ShardEndpoint* endpoint, uint64_t source, Lane lane, std::shared_ptr<Channel> channel,
         Arrival arrival)
      : source(source),
        lane(lane),
        arrival(arrival),
        channel(std::move(channel)),
        endpoint_(endpoint) {}

  void OnOpen() override {}
  absl::Status OnFrame(std::string frame) override {
    return endpoint_->OnFrame(*this, std::move(frame));
  }
  void OnClosed(const absl::Status&) override { endpoint_->OnClosed(*this); }

  const uint64_t source;
  const Lane lane;
  const Arrival arrival;
  // Guarded by the endpoint's mutex. The channel is null once closed: it and its sink own each
  // other until then.
  std::shared_ptr<Channel> channel;
  size_t held_bytes = 0;  // in the inbox, or received and not yet answered

 private:
  ShardEndpoint* const endpoint_;
};

ShardEndpoint::ShardEndpoint(const ExchangeOptions& options, int max_streams)
    : options_(options),
      numerics_hash_(NumericsHash(options.numerics_id)),
      max_streams_(max_streams),
      inbox_(options.result_bytes) {}

ShardEndpoint::~ShardEndpoint() { Close(); }

absl::StatusOr<std::shared_ptr<ChannelSink>> ShardEndpoint::Connect(
    Lane lane, std::shared_ptr<Channel> channel, Arrival arrival) {
  std::lock_guard lock(mutex_);
  if (closed_) return absl::UnavailableError("the shard is stopping");
  if (streams_.size() >= max_streams_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the shard has all ", max_streams_, " streams open"));
  }
  const uint64_t source = next_source_++;
  auto stream = std::make_shared<Stream>(this, source, lane, std::move(channel), arrival);
  streams_[source] = stream;
  return stream;
}

namespace {

size_t TotalBytes(const Inbox::Frames& frames) {
  size_t total = 0;
  for (const auto& inbound : frames) total += inbound->bytes.size();
  return total;
}

absl::Status CheckLane(const FrameHeader& header, Lane lane) {
  if (header.lane == lane) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("malformed frame: lane ", static_cast<int>(header.lane),
                   " in the channel of lane ", static_cast<int>(lane)));
}

}  // namespace

absl::Status ShardEndpoint::OnFrame(Stream& stream, std::string bytes) {
  if (LooksLikeAbandon(bytes)) return OnAbandon(stream, bytes);
  auto inbound = std::make_unique<Inbound>();
  inbound->bytes = std::move(bytes);
  ASSIGN_OR_RETURN(DispatchView view, ParseDispatch(std::string_view(inbound->bytes)));
  RETURN_IF_ERROR(CheckLane(view.header, stream.lane));
  inbound->source = stream.source;
  inbound->header = view.header;
  inbound->frame = {.layer = static_cast<int>(view.header.layer),
                    .lane = view.header.lane,
                    .entries = std::move(view.entries),
                    .num_rows = static_cast<int>(view.header.num_rows),
                    .rows = view.rows};
  const size_t num_entries = inbound->frame.entries.size();
  const bool usable =
      view.header.numerics_hash == numerics_hash_ && view.header.row_bytes == options_.row_bytes &&
      ReplyRowsOffset(num_entries) + num_entries * options_.result_bytes <= kMaxFrameBytes;
  if (usable) return Enqueue(stream, std::move(inbound));
  std::shared_ptr<Channel> channel;
  {
    std::lock_guard lock(mutex_);
    channel = stream.channel;
  }
  const std::vector<EntryState> refused(num_entries, EntryState::kRefused);
  if (channel)
    channel->Send(
        EncodeReply(view.header, {.states = refused, .results = {}}, options_.result_bytes));
  return absl::OkStatus();
}

absl::Status ShardEndpoint::OnAbandon(Stream& stream, std::string_view bytes) {
  ASSIGN_OR_RETURN(const FrameHeader header, ParseAbandon(bytes));
  RETURN_IF_ERROR(CheckLane(header, stream.lane));
  Inbox::Frames dropped;  // freed outside the lock
  std::lock_guard lock(mutex_);
  dropped = inbox_.DropTicket(stream.source,
                              {.slot = header.ticket_slot, .generation = header.ticket_generation});
  counters_.abandoned += dropped.size();
  for (const auto& inbound : dropped) stream.held_bytes -= inbound->bytes.size();
  held_bytes_ -= TotalBytes(dropped);
  return absl::OkStatus();
}

absl::Status ShardEndpoint::Enqueue(Stream& stream, std::unique_ptr<Inbound> inbound) {
  std::unique_lock lock(mutex_);
  if (stream.channel == nullptr) return absl::UnavailableError("the connection is closed");
  if (stream.held_bytes + inbound->bytes.size() > options_.max_queued_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the shard's inbox holds ", stream.held_bytes,
                                                     " bytes of this rank, the limit is ",
                                                     options_.max_queued_bytes));
  }
  if (held_bytes_ + inbound->bytes.size() > options_.max_inbox_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the shard's inbox holds ", held_bytes_,
                                                     " bytes of all ranks, the limit is ",
                                                     options_.max_inbox_bytes));
  }
  stream.held_bytes += inbound->bytes.size();
  held_bytes_ += inbound->bytes.size();
  inbox_.Push(std::move(inbound));
  // By Arrived.
  const bool announced_later = serve_ != nullptr && stream.arrival == Arrival::kAnnounced;
  lock.unlock();  // or the loop would wake up only to wait for us
  if (!announced_later) arrived_.notify_one();
  return absl::OkStatus();
}

void ShardEndpoint::OnClosed(Stream& stream) {
  std::shared_ptr<Channel> channel;  // let go of outside the lock
  std::shared_ptr<Stream> kept;      // likewise
  Inbox::Frames dropped;
  std::lock_guard lock(mutex_);
  channel = std::move(stream.channel);
  const auto place = streams_.find(stream.source);
  if (place == streams_.end()) return;
  kept = std::move(place->second);
  streams_.erase(place);
  dropped = inbox_.DropSource(stream.source);
  counters_.orphaned += dropped.size();
  held_bytes_ -= TotalBytes(dropped);
}

void ShardEndpoint::SetServe(std::function<bool()> serve) {
  std::unique_lock lock(mutex_);
  serve_ = std::move(serve);
  if (serve_ == nullptr) served_.wait(lock, [this] { return num_serving_ == 0; });
  arrived_.notify_all();  // for what came in between
}

void ShardEndpoint::Arrived() {
  std::unique_lock lock(mutex_);
  if (serve_ == nullptr || inbox_.empty()) return;
  const std::function<bool()> serve = serve_;
  ++num_serving_;
  lock.unlock();
  serve();
  lock.lock();
  --num_serving_;
  served_.notify_all();
  const bool is_left = !inbox_.empty();  // it served one group, or none
  lock.unlock();
  if (is_left) arrived_.notify_one();
}

bool ShardEndpoint::Await(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  WaitUntil(arrived_, lock, deadline, [&] { return closed_ || woken_up_ || !inbox_.empty(); });
  woken_up_ = false;
  return !closed_ && !inbox_.empty();
}

void ShardEndpoint::WakeUp() {
  std::lock_guard lock(mutex_);
  woken_up_ = true;
  arrived_.notify_all();
}

std::optional<InboundGroup> ShardEndpoint::Receive(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  WaitUntil(arrived_, lock, deadline, [&] { return closed_ || !inbox_.empty(); });
  if (closed_ || inbox_.empty()) return std::nullopt;
  InboundGroup group;
  for (std::unique_ptr<Inbound>& inbound : inbox_.TakeGroup()) {
    inbound->frame.reply_to = next_reply_to_++;
    group.push_back(std::move(inbound->frame));
    received_[group.back().reply_to] = std::move(inbound);
  }
  return group;
}

void ShardEndpoint::Reply(const InboundFrame& frame, const FrameAnswer& answer) {
  ORRERY_CHECK(answer.states.size() == frame.entries.size() &&
               answer.results.size() >= answer.states.size() * options_.result_bytes)
      << answer.states.size() << " states and " << answer.results.size() << " bytes of results for "
      << frame.entries.size() << " entries";
  std::unique_ptr<Inbound> inbound;
  std::shared_ptr<Channel> channel;
  {
    std::lock_guard lock(mutex_);
    const auto place = received_.find(frame.reply_to);
    ORRERY_CHECK(place != received_.end()) << "frame " << frame.reply_to << " has been answered";
    inbound = std::move(place->second);
    received_.erase(place);
    held_bytes_ -= inbound->bytes.size();
    const auto stream = streams_.find(inbound->source);
    if (stream == streams_.end()) return;  // the rank is gone
    stream->second->held_bytes -= inbound->bytes.size();
    channel = stream->second->channel;
  }
  std::string bytes = EncodeReply(inbound->header, answer, options_.result_bytes);
  if (!channel->Send(std::move(bytes))) {
    channel->Close(absl::ResourceExhaustedError(absl::StrCat(
        "the rank does not read: its replies exceed ", options_.max_queued_bytes, " bytes")));
  }
}

InboxCounters ShardEndpoint::counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

int ShardEndpoint::num_connections() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(streams_.size());
}

void ShardEndpoint::Close() {
  std::vector<std::shared_ptr<Channel>> channels;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    for (const auto& [source, stream] : streams_) channels.push_back(stream->channel);
    inbox_.Clear();
    arrived_.notify_all();
  }
  for (const auto& channel : channels)
    channel->Close(absl::UnavailableError("the shard is stopping"));
}

}  // namespace orrery
