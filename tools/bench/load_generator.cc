#include "tools/bench/load_generator.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "grpcpp/completion_queue.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/status.h"
#include "tools/bench/draws.h"

namespace orrery {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
// How often `should_stop` is asked.
constexpr absl::Duration kStopInterval = absl::Milliseconds(100);
// A timer of gRPC wakes up to a millisecond late. A request that is due so soon is sent now, and
// counts from now.
constexpr absl::Duration kTimerSlack = absl::Milliseconds(1);
// What was due in the window may be sent so long after it: loops have a latency.
constexpr absl::Duration kSendGrace = absl::Milliseconds(100);

struct Source;

// One open request. At most one operation of it is under way, and the queue's tag is its address.
struct Call {
  enum class State { kStarting, kReading, kIdle, kFinishing };

  Source* source = nullptr;
  State state = State::kStarting;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader;
  v1::GenerateResponse response;
  grpc::Status status;
  RequestRecord record;
};

// One load under way.
struct Source {
  Source(const Load& load, const LoadDraws::Key& key, const std::vector<int32_t>* pool)
      : record{.load = load, .requests = {}, .num_unsent = 0}, draws(&record.load, key, pool) {}

  LoadRecord record;
  const LoadDraws draws;
  std::unique_ptr<v1::Orrery::Stub> stub;
  uint32_t next_request = 0;
  // Open loop: when it is due.
  absl::Time next_arrival;
  int64_t num_measured = 0;
  int num_open = 0;
  bool is_over = false;

  void Advance() {
    ++next_request;
    if (record.load.is_open()) next_arrival += draws.Gap(next_request);
  }
};

class PhaseRun {
 public:
  PhaseRun(const LoadGenerator::Options& options, const Phase& phase)
      : options_(options), phase_(phase) {}
  // Leaves no call open.
  ~PhaseRun();

  absl::StatusOr<PhaseRecord> Run(const std::function<bool()>& should_stop);

 private:
  absl::Status Connect();
  void Begin(absl::Time now);
  // Sends what is due, and ends sources that have sent all.
  void SendDue(Source& source, absl::Time now);
  void Send(Source& source, absl::Time arrival);
  // Clients that go away by now, and everyone once the phase is cut.
  void CutDue(absl::Time now);
  void Cut(Call& call);
  // When something is due even if no message comes.
  absl::Time NextWakeUp(absl::Time now) const;
  void OnEvent(Call& call, bool ok, absl::Time now);
  void OnMessage(Call& call, absl::Time now);
  void Read(Call& call);
  void Close(Call& call, absl::Time now);
  bool IsDone() const;
  PhaseRecord Collect() const;

  const LoadGenerator::Options& options_;
  const Phase& phase_;
  Window window_;
  bool was_cut_ = false;
  std::vector<std::unique_ptr<Source>> sources_;
  std::map<Call*, std::unique_ptr<Call>> calls_;
  std::set<std::pair<absl::Time, Call*>> leaving_;
  grpc::CompletionQueue queue_;
};

PhaseRun::~PhaseRun() {
  for (const auto& [key, call] : calls_) Cut(*call);
  void* tag = nullptr;
  bool ok = false;
  // Cancelled calls end at once, whatever the router does.
  while (!calls_.empty() && queue_.Next(&tag, &ok)) OnEvent(*static_cast<Call*>(tag), ok, {});
  queue_.Shutdown();
  while (queue_.Next(&tag, &ok)) {
  }
}

absl::StatusOr<PhaseRecord> PhaseRun::Run(const std::function<bool()>& should_stop) {
  RETURN_IF_ERROR(Connect());
  absl::Time now = absl::Now();
  absl::Time next_stop_check = now;
  Begin(now);
  while (true) {
    for (const auto& source : sources_) SendDue(*source, now);
    CutDue(now);
    if (IsDone()) break;
    if (now >= next_stop_check) {
      if (should_stop && should_stop()) return absl::CancelledError("stopped");
      next_stop_check = now + kStopInterval;
    }
    void* tag = nullptr;
    bool ok = false;
    const auto next = queue_.AsyncNext(&tag, &ok, absl::ToChronoTime(NextWakeUp(now)));
    now = absl::Now();
    if (next == grpc::CompletionQueue::GOT_EVENT) OnEvent(*static_cast<Call*>(tag), ok, now);
  }
  return Collect();
}

absl::Status PhaseRun::Connect() {
  for (const Load& load : phase_.loads) {
    const LoadDraws::Key key = {.seed = phase_.seed,
                                .stream = static_cast<uint32_t>(sources_.size())};
    const bool is_elsewhere = !load.address.empty();
    const std::string& address = is_elsewhere ? load.address : options_.address;
    ASSIGN_OR_RETURN(
        const std::shared_ptr<grpc::Channel> channel,
        MakeChannel(address, is_elsewhere ? TlsFiles() : options_.tls, {.own_connection = true}));
    if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + kConnectTimeout))) {
      return absl::UnavailableError(absl::StrCat("no router answers at ", address, " within ",
                                                 absl::FormatDuration(kConnectTimeout)));
    }
    sources_.push_back(std::make_unique<Source>(load, key, &options_.token_pool));
    sources_.back()->stub = v1::Orrery::NewStub(channel);
  }
  return absl::OkStatus();
}

void PhaseRun::Begin(absl::Time now) {
  window_.begin = now + phase_.warmup;
  window_.end = phase_.duration > absl::ZeroDuration() ? window_.begin + phase_.duration
                                                       : absl::InfiniteFuture();
  for (const auto& source : sources_) {
    source->next_arrival = now;
    if (source->record.load.is_open()) source->next_arrival += source->draws.Gap(0);
  }
}

void PhaseRun::SendDue(Source& source, absl::Time now) {
  const bool is_open = source.record.load.is_open();
  const absl::Time last_send =
      window_.end + (phase_.cut_at_end ? absl::ZeroDuration() : kSendGrace);
  while (!source.is_over) {
    const absl::Time arrival = is_open ? source.next_arrival : now;
    const bool has_all = phase_.num_requests > 0 && source.num_measured >= phase_.num_requests;
    source.is_over = arrival >= window_.end || has_all;
    if (source.is_over || arrival > now + kTimerSlack) return;
    if (source.num_open < source.record.load.limit() && now < last_send) {
      Send(source, std::min(arrival, now));
    } else if (now >= last_send) {
      source.record.num_unsent += window_.Contains(arrival);
    } else {
      return;
    }
    source.Advance();
  }
}

void PhaseRun::Send(Source& source, absl::Time arrival) {
  auto owned = std::make_unique<Call>();
  Call& call = *owned;
  calls_[&call] = std::move(owned);
  RequestShape shape = source.draws.Shape(source.next_request);
  v1::GenerateRequest request = options_.common;
  request.mutable_ids()->mutable_id()->Assign(shape.prompt.begin(), shape.prompt.end());
  request.set_max_new_tokens(shape.output_tokens);
  request.set_ignore_eos(true);
  request.set_seed(shape.seed);
  if (!source.record.load.tenant.empty()) request.set_tenant(source.record.load.tenant);
  if (source.record.load.priority != 0) request.set_priority(source.record.load.priority);

  call.source = &source;
  call.record.arrival = arrival;
  call.record.is_measured = window_.Contains(arrival);
  call.record.prompt_tokens = static_cast<int>(shape.prompt.size());
  call.record.output_tokens = shape.output_tokens;
  call.record.sent = absl::Now();
  const absl::Duration deadline = source.record.load.deadline;
  SetDeadline(call.context, call.record.sent + (deadline > absl::ZeroDuration()
                                                    ? std::min(deadline, options_.timeout)
                                                    : options_.timeout));
  call.reader = source.stub->PrepareAsyncGenerate(&call.context, request, &queue_);
  call.reader->StartCall(&call);
  ++source.num_open;
  source.num_measured += call.record.is_measured;
  if (source.record.load.disconnect_within > absl::ZeroDuration()) {
    leaving_.emplace(call.record.sent + shape.disconnect_after, &call);
  }
}

void PhaseRun::CutDue(absl::Time now) {
  while (!leaving_.empty() && leaving_.begin()->first <= now) {
    Call* const call = leaving_.begin()->second;
    leaving_.erase(leaving_.begin());
    Cut(*call);
  }
  if (!phase_.cut_at_end || was_cut_ || now < window_.end) return;
  was_cut_ = true;
  for (const auto& [key, call] : calls_) Cut(*call);
}

void PhaseRun::Cut(Call& call) {
  call.record.was_cut = true;
  call.context.TryCancel();
  if (call.state == Call::State::kIdle) Read(call);
}

absl::Time PhaseRun::NextWakeUp(absl::Time now) const {
  absl::Time time = now + kStopInterval;
  for (const auto& source : sources_) {
    const Load& load = source->record.load;
    const bool may_send = !source->is_over && source->num_open < load.limit();
    if (may_send && load.is_open()) time = std::min(time, source->next_arrival - kTimerSlack);
  }
  if (!leaving_.empty()) time = std::min(time, leaving_.begin()->first);
  if (now < window_.end) time = std::min(time, window_.end);
  return time;
}

void PhaseRun::OnEvent(Call& call, bool ok, absl::Time now) {
  switch (call.state) {
    case Call::State::kFinishing:
      return Close(call, now);
    case Call::State::kReading:
      if (ok) OnMessage(call, now);
      break;
    case Call::State::kStarting:
      if (ok && !call.source->record.load.reads && !call.record.was_cut) {
        call.state = Call::State::kIdle;
        return;
      }
      break;
    case Call::State::kIdle:
      ORRERY_CHECK(false) << "an event of a call without an operation";
  }
  if (ok) return Read(call);
  call.state = Call::State::kFinishing;
  call.reader->Finish(&call.status, &call);
}

void PhaseRun::OnMessage(Call& call, absl::Time now) {
  if (call.response.has_delta()) call.record.tokens.push_back(now);
  if (!call.response.has_finished()) return;
  call.record.usage = call.response.finished().usage();
  call.record.end = now;
}

void PhaseRun::Read(Call& call) {
  call.state = Call::State::kReading;
  call.reader->Read(&call.response, &call);
}

void PhaseRun::Close(Call& call, absl::Time now) {
  call.record.status = FromGrpcStatus(call.status);
  if (!call.status.ok() || !call.response.has_finished()) call.record.end = now;
  // Else it had ended before it was cut.
  call.record.was_cut &= absl::IsCancelled(call.record.status);
  std::erase_if(leaving_, [&](const auto& entry) { return entry.second == &call; });
  --call.source->num_open;
  call.source->record.requests.push_back(std::move(call.record));
  calls_.erase(&call);
}

bool PhaseRun::IsDone() const {
  return calls_.empty() && std::all_of(sources_.begin(), sources_.end(),
                                       [](const auto& source) { return source->is_over; });
}

PhaseRecord PhaseRun::Collect() const {
  PhaseRecord record = {.window = window_, .loads = {}};
  absl::Time last = window_.begin;
  for (const auto& source : sources_) {
    for (const RequestRecord& request : source->record.requests) {
      if (request.is_measured) last = std::max(last, request.end);
    }
    record.loads.push_back(source->record);
  }
  // The last end belongs to it.
  if (window_.end == absl::InfiniteFuture()) record.window.end = last + absl::Nanoseconds(1);
  return record;
}

}  // namespace

absl::StatusOr<PhaseRecord> LoadGenerator::Run(const Phase& phase,
                                               const std::function<bool()>& should_stop) {
  return PhaseRun(options_, phase).Run(should_stop);
}

}  // namespace orrery
