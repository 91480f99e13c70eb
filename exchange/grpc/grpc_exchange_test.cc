// What only the gRPC transport can get wrong: peers that stall, refuse, overflow or speak nonsense,
// and TLS. What it shares with other transports is exchange_conformance_test.

#include <atomic>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "exchange/frame.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/grpc/grpc_shard.h"
#include "exchange/grpc/metadata.h"
#include "exchange/grpc/sealed_frame.h"
#include "exchange/plan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/expert.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/server.h"
#include "rpc/status.h"
#include "rpc/test_certificates.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

constexpr size_t kRowBytes = 100'000;
constexpr size_t kResultBytes = 16;
// A deadline that only a broken exchange reaches.
absl::Time Far() { return absl::Now() + absl::Minutes(2); }

ExchangeOptions Options() {
  return {.numerics_id = "test",
          .row_bytes = kRowBytes,
          .result_bytes = kResultBytes,
          .max_tickets = 64};
}

// A plan of one row for one expert of peer 0.
const DispatchPlan kOneRow = {{.peer = 0, .entries = {DispatchEntry()}}};
const std::vector<std::byte> kRow(kRowBytes);

struct Shard {
  explicit Shard(const ExchangeOptions& options, const TlsFiles& tls = {})
      : Shard(GrpcShardOptions{.exchange = options}, tls) {}
  explicit Shard(const GrpcShardOptions& options, const TlsFiles& tls = {})
      : exchange(MakeGrpcShardExchange(options).value()),
        server(
            Server::Start({.address = "127.0.0.1:0", .tls = tls}, {exchange->service()}).value()) {}

  std::unique_ptr<GrpcShardExchange> exchange;
  std::unique_ptr<Server> server;
};

std::unique_ptr<RankExchange> RankFor(const std::string& address, GrpcRankOptions options = {}) {
  options.exchange = Options();
  options.rank_name = "attention-0";
  options.peers = {{.name = "expert-0", .address = address}};
  options.max_backoff = absl::Milliseconds(50);
  return MakeGrpcRankExchange(options).value();
}

TEST(GrpcExchange, ConnectsOnceTheShardAccepts) {
  Shard shard(Options());
  const auto rank = RankFor(shard.server->address());
  EXPECT_FALSE(rank->AwaitConnected(0, absl::Now() + absl::Milliseconds(100)));
  shard.exchange->SetAccepting(true);
  EXPECT_TRUE(rank->AwaitConnected(0, Far()));
}

// It accepts the stream and then never reads: the windows fill and a write hangs.
class StallingExpert : public internal::Expert::CallbackService {
 public:
  grpc::ServerBidiReactor<internal::Frame, internal::Frame>* Exchange(
      grpc::CallbackServerContext* context) override {
    class Reactor : public grpc::ServerBidiReactor<internal::Frame, internal::Frame> {
     public:
      void OnCancel() override { Finish(grpc::Status::CANCELLED); }
      void OnDone() override { delete this; }
    };
    auto* reactor = new Reactor();
    context->AddInitialMetadata(kAcceptedMetadata, "1");
    reactor->StartSendInitialMetadata();
    return reactor;
  }
};

TEST(GrpcExchange, LosesAPeerThatTakesNoMoreFrames) {
  StallingExpert expert;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&expert}).value();
  GrpcRankOptions options;
  options.write_timeout = absl::Milliseconds(200);
  const auto rank = RankFor(server->address(), options);
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  // 30 MB, more than the windows hold.
  const DispatchPlan five_rows = {
      {.peer = 0, .entries = {{.row = 0}, {.row = 1}, {.row = 2}, {.row = 3}, {.row = 4}}}};
  const std::vector<std::byte> rows(5 * kRowBytes);
  std::vector<Ticket> tickets;
  for (int i = 0; i < 60; ++i) {
    tickets.push_back(rank->Dispatch(0, Lane::kBulk, five_rows, rows).value());
  }
  for (Ticket ticket : tickets) {
    const CombineReport report = rank->Combine(ticket, Far(), {});
    ASSERT_EQ(report.size(), 5u);
    EXPECT_EQ(report[0].state, EntryState::kLost);
  }
}

TEST(GrpcExchange, LosesAPeerWhoseQueueIsFull) {
  StallingExpert expert;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&expert}).value();
  GrpcRankOptions options{.exchange = Options()};
  options.exchange.max_queued_bytes = kMaxFrameBytes;
  options.rank_name = "attention-0";
  options.peers = {{.name = "expert-0", .address = server->address()}};
  const auto rank = MakeGrpcRankExchange(options).value();
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  // Windows grow, but not to 200 MB. Whoever finds the queue full need not wait.
  EntryState state = EntryState::kPending;
  for (int i = 0; i < 2000 && state == EntryState::kPending; ++i) {
    const Ticket ticket = rank->Dispatch(0, Lane::kBulk, kOneRow, kRow).value();
    state = rank->Combine(ticket, absl::Now(), {}).at(0).state;
  }
  EXPECT_EQ(state, EntryState::kLost);
}

TEST(GrpcExchange, FailsTheStreamOfARankThatOverflowsTheInbox) {
  ExchangeOptions small = Options();
  small.max_queued_bytes = kMaxFrameBytes;
  Shard shard(small);
  shard.exchange->SetAccepting(true);
  const auto rank = RankFor(shard.server->address());
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  std::vector<Ticket> tickets;
  for (int i = 0; i < 8; ++i) {
    tickets.push_back(rank->Dispatch(0, Lane::kDecode, kOneRow, kRow).value());
  }
  // Five fit; the sixth ends the stream, and with it what waits. (The last ones may already travel
  // on the next stream.)
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(rank->Combine(tickets[i], Far(), {}).at(0).state, EntryState::kLost);
  }
  EXPECT_TRUE(rank->AwaitConnected(0, Far()));
}

// A rank by hand, for what a real one never sends.
absl::Status SendRaw(const std::string& address, const std::string& lane,
                     const std::vector<internal::Frame>& frames) {
  const auto stub = internal::Expert::NewStub(MakeChannel(address, {}).value());
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(Far()));
  if (!lane.empty()) context.AddMetadata(kLaneMetadata, lane);
  const auto stream = stub->Exchange(&context);
  for (const internal::Frame& frame : frames) {
    if (!stream->Write(frame)) break;
  }
  internal::Frame reply;
  while (stream->Read(&reply)) {
  }
  return FromGrpcStatus(stream->Finish());
}

TEST(GrpcExchange, RefusesMetadataAndFramesThatMakeNoSense) {
  Shard shard(Options());
  const std::string& address = shard.server->address();
  EXPECT_EQ(SendRaw(address, "decode", {}).code(), absl::StatusCode::kUnavailable);  // not ready
  shard.exchange->SetAccepting(true);
  for (const char* lane : {"", "express"}) {
    const absl::Status status = SendRaw(address, lane, {});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("orrery-lane"));
  }
  EXPECT_THAT(std::string(SendRaw(address, "decode", {Seal("rubbish")}).message()),
              HasSubstr("malformed frame"));
  EXPECT_THAT(
      std::string(SendRaw(address, "bulk", {Seal(std::string(kMaxFrameBytes + 1, 'x'))}).message()),
      HasSubstr("the limit is 524288"));
}

// One bit, anywhere in it, on the way to the shard.
TEST(GrpcExchange, ADispatchThatWasChangedOnTheWayEndsItsStreamUnread) {
  Shard shard(Options());
  shard.exchange->SetAccepting(true);
  FrameHeader header{.row_bytes = kRowBytes, .numerics_hash = NumericsHash("test")};
  const internal::Frame whole = Seal(EncodeDispatch(header, kOneRow[0].entries, kRow.data()));
  for (const size_t place : {size_t{20}, size_t{60}, whole.payload().size() - 1}) {
    internal::Frame changed = whole;
    (*changed.mutable_payload())[place] ^= 4;
    const absl::Status status = SendRaw(shard.server->address(), "decode", {changed});
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("changed on the way"));
  }
  EXPECT_FALSE(shard.exchange->Receive(absl::Now()).has_value());
}

// Answers every dispatch with a reply of which one bit is wrong.
class FlippingExpert : public internal::Expert::CallbackService {
 public:
  grpc::ServerBidiReactor<internal::Frame, internal::Frame>* Exchange(
      grpc::CallbackServerContext* context) override {
    class Reactor : public grpc::ServerBidiReactor<internal::Frame, internal::Frame> {
     public:
      Reactor() { StartRead(&frame_); }
      void OnReadDone(bool ok) override {
        if (!ok) return Finish(grpc::Status::OK);
        const DispatchView dispatch = ParseDispatch(frame_.payload()).value();
        const std::vector<EntryState> done(dispatch.entries.size(), EntryState::kDone);
        const std::vector<std::byte> results(done.size() * kResultBytes);
        frame_ =
            Seal(EncodeReply(dispatch.header, {.states = done, .results = results}, kResultBytes));
        frame_.mutable_payload()->back() ^= 1;
        StartWrite(&frame_);
      }
      void OnWriteDone(bool) override { StartRead(&frame_); }
      void OnDone() override { delete this; }

     private:
      internal::Frame frame_;
    };
    context->AddInitialMetadata(kAcceptedMetadata, "1");
    auto* reactor = new Reactor();
    reactor->StartSendInitialMetadata();
    return reactor;
  }
};

TEST(GrpcExchange, AReplyThatWasChangedOnTheWayIsLostAndTouchesNoResult) {
  FlippingExpert expert;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&expert}).value();
  const auto rank = RankFor(server->address());
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  std::vector<std::byte> results(kResultBytes, std::byte{7});
  const Ticket ticket = rank->Dispatch(0, Lane::kDecode, kOneRow, kRow).value();
  const CombineReport report = rank->Combine(ticket, Far(), absl::MakeSpan(results));
  ASSERT_EQ(report.size(), 1u);
  EXPECT_EQ(report[0].state, EntryState::kLost);
  EXPECT_EQ(results, std::vector<std::byte>(kResultBytes, std::byte{7}));
}

internal::Frame Numbered(uint64_t number, std::string frame) {
  internal::Frame sealed = Seal(std::move(frame));
  sealed.set_number(number);
  return sealed;
}

TEST(GrpcExchange, AShardThatMissesAFrameEndsTheStream) {
  Shard shard(Options());
  shard.exchange->SetAccepting(true);
  const std::string frame = EncodeAbandon({.numerics_hash = NumericsHash("test")});
  const absl::Status status =
      SendRaw(shard.server->address(), "decode", {Numbered(1, frame), Numbered(3, MakeKnock())});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("frame 3 came where frame 2 was due"));
}

TEST(GrpcExchange, AShardAnswersAKnock) {
  Shard shard(Options());
  shard.exchange->SetAccepting(true);
  const auto stub = internal::Expert::NewStub(MakeChannel(shard.server->address(), {}).value());
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(Far()));
  context.AddMetadata(kLaneMetadata, "bulk");
  const auto stream = stub->Exchange(&context);
  for (const uint64_t number : {1, 2}) {
    ASSERT_TRUE(stream->Write(Numbered(number, MakeKnock())));
    internal::Frame reply;
    ASSERT_TRUE(stream->Read(&reply));
    EXPECT_TRUE(IsKnock(reply.payload()));
    EXPECT_EQ(reply.number(), number);
  }
}

// Answers knocks, each as the next frame but for `num_lost` that it says it sent before, and nothing else; with
// nullopt, not even those.
class SilentExpert : public internal::Expert::CallbackService {
 public:
  explicit SilentExpert(std::optional<uint64_t> num_lost) : num_lost_(num_lost) {}
  grpc::ServerBidiReactor<internal::Frame, internal::Frame>* Exchange(
      grpc::CallbackServerContext* context) override {
    class Reactor : public grpc::ServerBidiReactor<internal::Frame, internal::Frame> {
     public:
      Reactor(std::optional<uint64_t> num_sent, std::atomic<int>* num_knocks)
          : num_sent_(num_sent), num_knocks_(num_knocks) {
        StartRead(&frame_);
      }
      void OnReadDone(bool ok) override {
        if (!ok) return Finish(grpc::Status::OK);
        if (!IsKnock(frame_.payload())) return StartRead(&frame_);
        ++*num_knocks_;
        if (!num_sent_.has_value()) return StartRead(&frame_);
        frame_ = Numbered(++*num_sent_, MakeKnock());
        StartWrite(&frame_);
      }
      void OnWriteDone(bool) override { StartRead(&frame_); }
      void OnDone() override { delete this; }

     private:
      std::optional<uint64_t> num_sent_;
      std::atomic<int>* const num_knocks_;
      internal::Frame frame_;
    };
    context->AddInitialMetadata(kAcceptedMetadata, kAnswersKnocks);
    auto* reactor = new Reactor(num_lost_, &num_knocks);
    reactor->StartSendInitialMetadata();
    return reactor;
  }

  std::atomic<int> num_knocks = 0;

 private:
  const std::optional<uint64_t> num_lost_;
};

// What becomes of one row, for a rank that looks around while it waits.
EntryState AskWhileLookingAround(RankExchange& rank) {
  const Ticket ticket = rank.Dispatch(0, Lane::kDecode, kOneRow, kRow).value();
  const absl::Time far = Far();
  while (!rank.Await(ticket, absl::Now() + absl::Milliseconds(20)) && absl::Now() < far) {
  }
  const CombineReport report = rank.Combine(ticket, absl::Now(), {});
  return report.empty() ? EntryState::kDone : report[0].state;
}

TEST(GrpcExchange, AnAnswerThatWasLostOnTheWayIsMissed) {
  SilentExpert expert(/*num_lost=*/1);
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&expert}).value();
  const auto rank = RankFor(server->address());
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  EXPECT_EQ(AskWhileLookingAround(*rank), EntryState::kLost);
}

TEST(GrpcExchange, WhereNothingGetsThroughAnyMoreKnocksAreMissed) {
  SilentExpert expert(/*num_lost=*/std::nullopt);
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&expert}).value();
  GrpcRankOptions options;
  options.knock_timeout = absl::Milliseconds(200);
  const auto rank = RankFor(server->address(), options);
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  EXPECT_EQ(AskWhileLookingAround(*rank), EntryState::kLost);
}

// Answers with what is no message.
class RubbishExpert
    : public internal::Expert::WithRawCallbackMethod_Exchange<internal::Expert::Service> {
 public:
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Exchange(
      grpc::CallbackServerContext* context) override {
    class Reactor : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
     public:
      Reactor() { StartRead(&buffer_); }
      void OnReadDone(bool ok) override {
        if (!ok) return Finish(grpc::Status::OK);
        const grpc::Slice rubbish("\x0a\x7f");  // a payload of 127 bytes, which do not follow
        buffer_ = grpc::ByteBuffer(&rubbish, 1);
        StartWrite(&buffer_);
      }
      void OnWriteDone(bool) override { StartRead(&buffer_); }
      void OnDone() override { delete this; }

     private:
      grpc::ByteBuffer buffer_;
    };
    context->AddInitialMetadata(kAcceptedMetadata, kAnswersKnocks);
    auto* reactor = new Reactor();
    reactor->StartSendInitialMetadata();
    return reactor;
  }
};

TEST(GrpcExchange, AnAnswerThatIsNoMessageIsLost) {
  RubbishExpert expert;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&expert}).value();
  const auto rank = RankFor(server->address());
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  const Ticket ticket = rank->Dispatch(0, Lane::kDecode, kOneRow, kRow).value();
  EXPECT_EQ(rank->Combine(ticket, Far(), {}).at(0).state, EntryState::kLost);
  EXPECT_TRUE(rank->AwaitConnected(0, Far()));
}

TEST(GrpcExchange, AnAnswerThatIsOnlyLateIsWaitedFor) {
  SilentExpert expert(/*num_lost=*/0);
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&expert}).value();
  const auto rank = RankFor(server->address());
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  const Ticket ticket = rank->Dispatch(0, Lane::kDecode, kOneRow, kRow).value();
  const absl::Time far = Far();
  while (expert.num_knocks < 3 && absl::Now() < far) {
    ASSERT_FALSE(rank->Await(ticket, absl::Now() + absl::Milliseconds(20)));
  }
  EXPECT_EQ(rank->Combine(ticket, absl::Now(), {}).at(0).state, EntryState::kPending);
}

TEST(GrpcExchange, LosesARankThatTakesNoMoreFrames) {
  ExchangeOptions large_results = Options();
  large_results.row_bytes = kResultBytes;
  large_results.result_bytes = kRowBytes;
  large_results.max_queued_bytes = size_t{1} << 30;  // or the queue would be full before
  Shard shard(GrpcShardOptions{.exchange = large_results, .write_timeout = absl::Milliseconds(50)});
  shard.exchange->SetAccepting(true);
  const auto stub = internal::Expert::NewStub(MakeChannel(shard.server->address(), {}).value());
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(Far()));
  context.AddMetadata(kLaneMetadata, "decode");
  const auto stream = stub->Exchange(&context);
  const std::string dispatch =
      EncodeDispatch({.row_bytes = kResultBytes, .numerics_hash = NumericsHash("test")},
                     kOneRow[0].entries, kRow.data());
  const std::vector<EntryState> done = {EntryState::kDone};
  // It never reads, so the windows fill.
  while (stream->Write(Seal(dispatch))) {
    const std::optional<InboundGroup> group =
        shard.exchange->Receive(absl::Now() + absl::Milliseconds(100));
    if (!group.has_value()) continue;  // it was of a stream that is over by now
    for (const InboundFrame& frame : *group) {
      shard.exchange->Reply(frame, {.states = done, .results = kRow});
    }
  }
  internal::Frame reply;
  while (stream->Read(&reply)) {
  }
  EXPECT_NE(stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST(GrpcExchange, RefusesStreamsBeyondItsLimit) {
  const auto exchange = MakeGrpcShardExchange({.exchange = Options(), .max_streams = 2}).value();
  exchange->SetAccepting(true);
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {exchange->service()}).value();
  const auto rank = RankFor(server->address());
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  EXPECT_EQ(SendRaw(server->address(), "decode", {}).code(), absl::StatusCode::kResourceExhausted);
}

TEST(GrpcExchange, RefusesStreamsThatAreMeantForAnotherShard) {
  // The rank takes it for expert-0, which had the address before.
  const auto exchange = MakeGrpcShardExchange({.exchange = Options(), .name = "expert-1"}).value();
  exchange->SetAccepting(true);
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {exchange->service()}).value();
  const auto rank = RankFor(server->address());
  EXPECT_FALSE(rank->AwaitConnected(0, absl::Now() + absl::Milliseconds(200)));
}

TEST(GrpcExchange, RefusesOptionsThatCannotWork) {
  GrpcRankOptions options{.exchange = Options()};
  options.peers = {{.name = "expert-0", .address = "no port"}};
  EXPECT_EQ(MakeGrpcRankExchange(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.peers.clear();
  EXPECT_TRUE(MakeGrpcRankExchange(options).ok());
  options.min_backoff = absl::ZeroDuration();
  EXPECT_FALSE(MakeGrpcRankExchange(options).ok());
  EXPECT_FALSE(MakeGrpcShardExchange({}).ok());
  EXPECT_FALSE(MakeGrpcShardExchange({.exchange = Options(), .write_timeout = {}}).ok());
}

TEST(GrpcExchange, ClosesWhileItCannotReachItsPeer) {
  // A port where nobody listens: a server had it a moment ago.
  std::string address;
  {
    Shard shard(Options());
    address = shard.server->address();
  }
  const auto rank = RankFor(address);
  EXPECT_FALSE(rank->AwaitConnected(0, absl::Now() + absl::Milliseconds(50)));
  const Ticket ticket = rank->Dispatch(0, Lane::kDecode, kOneRow, kRow).value();
  EXPECT_EQ(rank->Combine(ticket, Far(), {}).at(0).state, EntryState::kLost);
}

TEST(GrpcExchange, SpeaksTls) {
  Shard shard(Options(), MakeTestCertificates("shard"));
  shard.exchange->SetAccepting(true);
  GrpcRankOptions options;
  options.tls = MakeTestCertificates("rank");
  const auto rank = RankFor(shard.server->address(), options);
  ASSERT_TRUE(rank->AwaitConnected(0, Far()));
  const Ticket ticket = rank->Dispatch(7, Lane::kDecode, kOneRow, kRow).value();
  EXPECT_EQ(shard.exchange->Receive(Far())->front().layer, 7);
  rank->Close();
  EXPECT_EQ(rank->Combine(ticket, Far(), {}).at(0).state, EntryState::kLost);
}

}  // namespace
}  // namespace orrery
