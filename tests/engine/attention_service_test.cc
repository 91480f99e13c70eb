// The gRPC face of a rank: an engine with the bundled model, a server, and clients that hold no
// thread either.
#include "services/attention/attention_service.h"

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/server.h"
#include "rpc/status.h"
#include "tests/engine/engine_cluster.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

constexpr ExpertRange kAll = {.begin = 0, .end = 16};  // abacus has 16 experts
constexpr int kManyTokens = 400;                       // more than any test waits for

// One call of Generate, read as far as the test asks.
class Call : public grpc::ClientReadReactor<internal::SequenceEvent> {
 public:
  Call(internal::Attention::Stub& stub, internal::SequenceRequest request,
       absl::Duration limit = kPatience)
      : request_(std::move(request)) {
    SetDeadline(context_, absl::Now() + limit);
    stub.async()->Generate(&context_, &request_, this);
    AddHold();  // there may be no read under way
    StartCall();
  }
  ~Call() override {
    context_.TryCancel();
    ReadTo(kEnd);
    Wait([this] { return is_done_; });
  }

  static constexpr int kEnd = 1 << 30;
  // Goes on until that many tokens were read, or the end.
  void ReadTo(int num_tokens) {
    std::lock_guard lock(mutex_);
    num_wanted_ = std::max(num_wanted_, num_tokens);
    if (num_wanted_ == kEnd && is_held_) {
      is_held_ = false;
      ReadNext();
      RemoveHold();
      return;
    }
    ReadNext();
  }
  std::vector<int32_t> WaitFor(int num_tokens) {
    ReadTo(num_tokens);
    Wait([&] { return is_done_ || static_cast<int>(ids_.size()) >= num_tokens; });
    std::lock_guard lock(mutex_);
    return ids_;
  }
  absl::Status WaitForEnd() {
    ReadTo(kEnd);
    Wait([this] { return is_done_; });
    return status_;
  }
  void Cancel() { context_.TryCancel(); }
  const std::vector<int32_t>& ids() const { return ids_; }  // once it has ended
  const std::vector<internal::SequenceEnd>& ends() const { return ends_; }

  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex_);
    is_reading_ = false;
    is_over_ = !ok;
    if (ok && event_.has_token()) ids_.push_back(event_.token().id());
    if (ok && event_.has_end()) ends_.push_back(event_.end());
    ReadNext();
    changed_.notify_all();
  }
  void OnDone(const grpc::Status& status) override {
    std::lock_guard lock(mutex_);
    status_ = FromGrpcStatus(status);
    is_done_ = true;
    changed_.notify_all();
  }

 private:
  void ReadNext() {
    if (is_reading_ || is_over_ || static_cast<int>(ids_.size()) >= num_wanted_) return;
    is_reading_ = true;
    StartRead(&event_);
  }
  template <typename Predicate>
  void Wait(Predicate predicate) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, absl::ToChronoSeconds(2 * kPatience), predicate));
  }

  grpc::ClientContext context_;
  const internal::SequenceRequest request_;
  internal::SequenceEvent event_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  int num_wanted_ = 0;
  bool is_held_ = true;
  bool is_reading_ = false;
  bool is_over_ = false;
  bool is_done_ = false;
  std::vector<int32_t> ids_;
  std::vector<internal::SequenceEnd> ends_;
  absl::Status status_;
};

// Never ends before its last token.
internal::SequenceRequest Request(int seed, int max_new_tokens = kManyTokens) {
  internal::SequenceRequest request;
  for (int i = 0; i < 10; ++i) request.add_prompt_ids(5 + (seed * 31 + i * 7) % 700);
  request.set_max_new_tokens(max_new_tokens);
  request.mutable_sampling()->set_temperature(1.0f);
  request.mutable_sampling()->set_seed(seed);
  return request;
}

class AttentionServiceTest : public ::testing::Test {
 protected:
  // max_running sequences at a time. The shard is silent until cluster_->AnswerAll().
  void Start(int max_running = 32) {
    cluster_ = EngineCluster::Make({.shards = {kAll}});
    ASSERT_NE(cluster_, nullptr);
    EngineOptions options;
    options.max_context_tokens = 512;
    options.num_kv_blocks = max_running * KvCache::BlocksFor(options.max_context_tokens);
    options.scheduler.max_running = max_running;
    options.expert_timeout = kPatience;
    auto engine = Engine::Start(cluster_->parts(0), options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    Listen([this] { return engine_.get(); });
  }
  void Listen(std::function<absl::StatusOr<Engine*>()> engine) {
    service_ = std::make_unique<AttentionService>(std::move(engine));
    auto server = Server::Start({.address = "127.0.0.1:0"}, {service_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = internal::Attention::NewStub(MakeChannel(server_->address(), {}).value());
  }
  std::unique_ptr<Call> Generate(const internal::SequenceRequest& request,
                                 absl::Duration limit = kPatience) {
    return std::make_unique<Call>(*stub_, request, limit);
  }
  // What the engine says without gRPC.
  std::vector<int32_t> Expected(const internal::SequenceRequest& proto) {
    GenerationRequest request;
    request.prompt_ids.assign(proto.prompt_ids().begin(), proto.prompt_ids().end());
    request.stop.max_new_tokens = proto.max_new_tokens();
    request.sampling.temperature = proto.sampling().temperature();
    request.sampling.seed = proto.sampling().seed();
    auto outbox = engine_->Submit(std::move(request));
    EXPECT_TRUE(outbox.ok()) << outbox.status();
    std::vector<int32_t> ids;
    while (outbox.ok() && !(*outbox)->status().has_value()) {
      for (const OutputEvent& event : (*outbox)->Next(absl::Now() + kPatience)) {
        const OutputToken* token = std::get_if<OutputToken>(&event);
        if (token != nullptr) ids.push_back(token->token.id);
      }
    }
    return ids;
  }
  void ExpectNothingUsed() {
    const EngineLoad load = engine_->load();
    EXPECT_EQ(load.num_running, 0);
    EXPECT_EQ(load.num_waiting, 0);
    EXPECT_EQ(load.num_free_kv_blocks, load.num_kv_blocks);
    EXPECT_EQ(load.num_leaked_kv_blocks, 0);
  }

  std::unique_ptr<EngineCluster> cluster_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<AttentionService> service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<internal::Attention::Stub> stub_;
};

TEST_F(AttentionServiceTest, GivesManyCallsAtOnceExactlyTheirTokensAndOneEnd) {
  Start();
  std::vector<internal::SequenceRequest> requests;
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < 40; ++i) {
    requests.push_back(Request(i, /*max_new_tokens=*/20 + i % 5));
    calls.push_back(Generate(requests.back()));
    calls.back()->ReadTo(Call::kEnd);
  }
  cluster_->AnswerAll();
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(calls[i]->WaitForEnd(), absl::OkStatus()) << i;
    EXPECT_EQ(calls[i]->ids(), Expected(requests[i])) << i;
    ASSERT_EQ(calls[i]->ends().size(), 1u) << i;
    EXPECT_EQ(calls[i]->ends()[0].output_tokens(), requests[i].max_new_tokens());
    EXPECT_EQ(calls[i]->ends()[0].prompt_tokens(), requests[i].prompt_ids_size());
  }
  ExpectNothingUsed();
}

TEST_F(AttentionServiceTest, GivesAllChoicesOfARequestAndOneEndEach) {
  Start();
  cluster_->AnswerAll();
  internal::SequenceRequest request = Request(1, /*max_new_tokens=*/12);
  request.set_num_choices(4);
  const auto call = Generate(request);
  EXPECT_EQ(call->WaitForEnd(), absl::OkStatus());
  EXPECT_EQ(call->ids().size(), 4u * 12);
  EXPECT_EQ(call->ends().size(), 4u);
}

// The first is in a step that waits for a silent shard, so the others stay where they are.
TEST_F(AttentionServiceTest, OpenCallsHoldNoThreads) {
  Start();
  const auto num_threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
  };
  std::vector<std::unique_ptr<Call>> calls;
  calls.push_back(Generate(Request(0)));
  ASSERT_TRUE(cluster_->loopback().shard(0).Receive(absl::Now() + kPatience).has_value());
  const auto open = [&](int num_waiting) {
    for (int i = 0; i < num_waiting; ++i) calls.push_back(Generate(Request(i)));
    const absl::Time deadline = absl::Now() + kPatience;
    while (engine_->load().num_waiting < calls.size() - 1 && absl::Now() < deadline) {
      EXPECT_FALSE(Generate({})->WaitForEnd().ok());  // refused at once
    }
    EXPECT_EQ(engine_->load().num_waiting, calls.size() - 1);
  };
  open(8);  // and with it whatever gRPC starts once
  const auto num_before = num_threads();
  open(100);
  EXPECT_LT(num_threads() - num_before, 10);
}

// Only one sequence runs at a time, so the second can only have run because the first made room.
TEST_F(AttentionServiceTest, ACallCancelledInTheMiddleMakesRoomForTheNext) {
  Start(/*max_running=*/1);
  cluster_->AnswerAll();
  const auto cancelled = Generate(Request(1));
  EXPECT_GE(cancelled->WaitFor(2).size(), 2u);
  cancelled->Cancel();
  const internal::SequenceRequest request = Request(2, /*max_new_tokens=*/5);
  const auto next = Generate(request);
  EXPECT_EQ(cancelled->WaitForEnd().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(next->WaitForEnd(), absl::OkStatus());
  EXPECT_LT(engine_->load().tokens_out, kManyTokens);
  ExpectNothingUsed();
  EXPECT_EQ(next->ids(), Expected(request));
}

// With log-probabilities its answer is larger than gRPC's window for a stream (64 KiB).
TEST_F(AttentionServiceTest, AClientThatReadsLateHoldsUpNobodyAndMissesNothing) {
  Start(/*max_running=*/2);
  cluster_->AnswerAll();
  internal::SequenceRequest request = Request(1);
  const std::vector<int32_t> expected = Expected(request);
  request.set_num_top_logprobs(20);
  const auto late = Generate(request);
  EXPECT_GE(late->WaitFor(1).size(), 1u);
  EXPECT_EQ(Generate(Request(2))->WaitForEnd(), absl::OkStatus());
  EXPECT_EQ(Generate(Request(3))->WaitForEnd(), absl::OkStatus());
  EXPECT_EQ(late->WaitForEnd(), absl::OkStatus());
  EXPECT_EQ(late->ids(), expected);
  EXPECT_EQ(late->ends().size(), 1u);
}

TEST_F(AttentionServiceTest, ACallThatIsCancelledWithAWriteUnderWayEnds) {
  Start(/*max_running=*/2);
  cluster_->AnswerAll();
  internal::SequenceRequest request = Request(1);
  request.set_num_top_logprobs(20);
  const auto stuck = Generate(request);
  EXPECT_GE(stuck->WaitFor(1).size(), 1u);
  EXPECT_EQ(Generate(Request(2))->WaitForEnd(), absl::OkStatus());
  stuck->Cancel();
  EXPECT_EQ(stuck->WaitForEnd().code(), absl::StatusCode::kCancelled);
  server_->Stop(absl::InfiniteFuture());  // returns only if the call has ended here too
  ExpectNothingUsed();
}

TEST_F(AttentionServiceTest, ADeadlineEndsACallWhoseShardIsSilent) {
  Start();
  const auto late = Generate(Request(1), absl::Milliseconds(200));
  EXPECT_EQ(late->WaitForEnd().code(), absl::StatusCode::kDeadlineExceeded);
  cluster_->AnswerAll();
  EXPECT_EQ(Generate(Request(2, /*max_new_tokens=*/3))->WaitForEnd(), absl::OkStatus());
  ExpectNothingUsed();
}

TEST_F(AttentionServiceTest, RefusesWithTheEnginesWordsWhatItCannotServe) {
  Start();
  internal::SequenceRequest request = Request(1);
  request.set_prompt_ids(3, 768);
  const absl::Status refused = Generate(request)->WaitForEnd();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("id 768 at index 3"));
}

TEST_F(AttentionServiceTest, SaysAtOnceThatItIsNotReady) {
  Listen([] { return absl::UnavailableError("this rank is still loading"); });
  EXPECT_EQ(Generate(Request(1))->WaitForEnd(),
            absl::UnavailableError("this rank is still loading"));
}

TEST_F(AttentionServiceTest, TheEnginesStopEndsOpenCalls) {
  Start(/*max_running=*/2);
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(Generate(Request(i)));
  EXPECT_EQ(Generate({})->WaitForEnd().code(), absl::StatusCode::kInvalidArgument);
  cluster_->loopback().DisconnectShard(0);
  engine_->Stop();
  for (const auto& call : calls) {
    const absl::Status end = call->WaitForEnd();
    EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(end.message()), HasSubstr("stopping"));
  }
  server_->Stop(absl::InfiniteFuture());
}

// The engine goes on, in a step that waits for a silent shard.
TEST_F(AttentionServiceTest, TheServersStopEndsOpenCallsThatTheEngineDoesNot) {
  Start(/*max_running=*/2);
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(Generate(Request(i)));
  ASSERT_TRUE(cluster_->loopback().shard(0).Receive(absl::Now() + kPatience).has_value());
  server_->Stop(absl::Now());
  for (const auto& call : calls) EXPECT_FALSE(call->WaitForEnd().ok());
  service_.reset();
}

TEST_F(AttentionServiceTest, StopsInTheMiddleOfManyAnswers) {
  Start();
  cluster_->AnswerAll();
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < 16; ++i) calls.push_back(Generate(Request(i)));
  for (const auto& call : calls) call->ReadTo(Call::kEnd);
  EXPECT_GE(calls[0]->WaitFor(3).size(), 3u);
  server_->Stop(absl::Now());
  service_.reset();
  for (const auto& call : calls) EXPECT_FALSE(call->WaitForEnd().ok());
  engine_->Stop();
  ExpectNothingUsed();
}

}  // namespace
}  // namespace orrery
