// Calls that stay open: clients that do not read, that cancel, that are many; ranks that stream as
// fast as they are read, without threads of their own.
#include "services/router/generate_call.h"

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "services/router/router_service_fixture.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

int NumThreads() {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                                        std::filesystem::directory_iterator()));
}

// Byte tokens, one after the other, each with so many alternatives that a message has some 4 KiB;
// then an end, or nothing until it is cancelled.
class StreamingRank : public internal::Attention::CallbackService {
 public:
  int num_tokens = 0;
  bool ends = true;
  std::atomic<int> num_written = 0;  // of all streams

  static int32_t Id(int index) { return TinyByteId(static_cast<unsigned char>('a' + index % 26)); }

  grpc::ServerWriteReactor<internal::SequenceEvent>* Generate(
      grpc::CallbackServerContext*, const internal::SequenceRequest* request) override {
    return new Stream(this, request->so_far_size() > 0 ? request->so_far(0).id_size() : 0);
  }

 private:
  class Stream : public grpc::ServerWriteReactor<internal::SequenceEvent> {
   public:
    // Deletes itself.
    Stream(StreamingRank* rank, int index) : rank_(rank), index_(index) {
      const std::lock_guard lock(mutex_);
      Next();
    }
    void OnWriteDone(bool ok) override {
      const std::lock_guard lock(mutex_);
      is_writing_ = false;
      if (!ok || is_cancelled_) return End();
      ++rank_->num_written;
      Next();
    }
    void OnCancel() override {
      const std::lock_guard lock(mutex_);
      is_cancelled_ = true;
      if (!is_writing_) End();
    }
    void OnDone() override { delete this; }

   private:
    void Next() {
      event_.Clear();
      if (index_ < rank_->num_tokens) {
        internal::SequenceToken& token = *event_.mutable_token();
        token.set_index(index_);
        token.set_id(Id(index_++));
        for (int k = 0; k < 500; ++k) token.add_top()->set_id(TinyByteId('z'));
        is_writing_ = true;
        return StartWrite(&event_);
      }
      if (!rank_->ends || has_ended_) return;
      event_.mutable_end()->set_reason(internal::END_REASON_LENGTH);
      has_ended_ = true;
      StartWriteAndFinish(&event_, {}, grpc::Status::OK);
    }
    void End() {
      if (!has_ended_) Finish(grpc::Status::CANCELLED);
      has_ended_ = true;
    }

    StreamingRank* const rank_;
    std::mutex mutex_;
    internal::SequenceEvent event_;
    int index_;
    bool is_writing_ = false;
    bool is_cancelled_ = false;
    bool has_ended_ = false;
  };
};

// A client that reads as it comes, without a thread.
class AsyncClient : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  AsyncClient(v1::Orrery::Stub& stub, const v1::GenerateRequest& request) : request_(request) {
    SetDeadline(context_, absl::Now() + kPatience);
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }
  bool AwaitToken() {
    return Await([this] { return has_token_ || is_done_; }) && has_token_;
  }
  grpc::Status AwaitDone() {
    EXPECT_TRUE(Await([this] { return is_done_; }));
    return status_;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    {
      const std::lock_guard lock(mutex_);
      has_token_ = has_token_ || response_.has_delta();
    }
    changed_.notify_all();
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    const std::lock_guard lock(mutex_);
    is_done_ = true;
    status_ = status;
    changed_.notify_all();
  }

 private:
  template <typename Predicate>
  bool Await(const Predicate& predicate) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoSeconds(2 * kPatience), predicate);
  }

  const v1::GenerateRequest request_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_token_ = false;
  bool is_done_ = false;
  grpc::Status status_;
};

class GenerateCallTest : public RouterServiceTest {
 protected:
  static Setup WithLongAnswers() {
    Setup setup;
    setup.max_context_tokens = 1'000'000;
    return setup;
  }
  explicit GenerateCallTest(const Setup& setup = WithLongAnswers()) : RouterServiceTest(setup) {}

  grpc::Service* rank_service(int i) override { return &streaming_[i]; }

  static v1::GenerateRequest LongQuestion() {
    v1::GenerateRequest request = Question();
    request.set_logprobs(true);
    request.set_num_top_logprobs(20);
    return request;
  }

  // Until the first rank gets nothing more written, because nobody reads: over many round trips
  // through the router.
  void AwaitStall() {
    constexpr int kRoundTrips = 300;
    const absl::Time patience = absl::Now() + kPatience;
    int num_written = -1;
    for (int num_same = 0; num_same < kRoundTrips && absl::Now() < patience; ++num_same) {
      if (streaming_[0].num_written != num_written || num_written == 0) num_same = 0;
      num_written = streaming_[0].num_written;
      grpc::ClientContext context;
      v1::ListModelsResponse models;
      ASSERT_TRUE(stub_->ListModels(&context, {}, &models).ok());
    }
  }

  bool AwaitNoneOpen() { return state_.AwaitNoneOpen(absl::Now() + kPatience); }

  StreamingRank streaming_[2];
};

TEST_F(GenerateCallTest, AClientThatDoesNotReadHoldsTheRankBackAndLosesNothing) {
  constexpr int kNumTokens = 10'000;
  streaming_[0].num_tokens = kNumTokens;
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + 4 * kPatience);
  const auto reader = stub_->Generate(&context, LongQuestion());
  AwaitStall();
  // gRPC lets the windows of the two connections grow, to some megabytes: a few thousand messages.
  EXPECT_LT(streaming_[0].num_written, kNumTokens);

  v1::GenerateResponse response;
  int num_tokens = 0;
  int num_wrong = 0;
  while (reader->Read(&response)) {
    if (response.has_delta()) {
      num_wrong += response.delta().id() != StreamingRank::Id(num_tokens++) ? 1 : 0;
    }
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(num_tokens, kNumTokens);
  EXPECT_EQ(num_wrong, 0);
  EXPECT_TRUE(response.has_finished());
}

TEST_F(GenerateCallTest, OpenRequestsTakeNoThreads) {
  streaming_[0].num_tokens = streaming_[1].num_tokens = 1;
  streaming_[0].ends = streaming_[1].ends = false;
  std::vector<std::unique_ptr<AsyncClient>> clients;
  const auto open = [&](int count) {
    for (int i = 0; i < count; ++i) {
      clients.push_back(std::make_unique<AsyncClient>(*stub_, Question()));
    }
    for (const auto& client : clients) ASSERT_TRUE(client->AwaitToken());
  };
  const auto close = [&] {
    for (const auto& client : clients) client->Cancel();
    for (const auto& client : clients) client->AwaitDone();
    clients.clear();
    ASSERT_TRUE(AwaitNoneOpen());
  };
  // gRPC's pools grow to what their load asks for, up to a bound; once is enough for that.
  open(200);
  close();
  open(1);
  const int num_threads = NumThreads();
  open(200);
  EXPECT_EQ(NumOpenRequests(), 201);
  EXPECT_LE(NumThreads(), num_threads + 20);
  close();
}

TEST_F(GenerateCallTest, ACancellationWhileItWaitsForAWorkerLeavesNothingOpen) {
  std::promise<void> promise;
  const std::shared_future<void> release = promise.get_future().share();
  for (int i = 0; i < setup_.service.workers.num_threads; ++i) {
    ASSERT_TRUE(service_->workers().Push(1, [release] { release.wait(); }).ok());
  }
  AsyncClient client(*stub_, Question());
  client.Cancel();
  EXPECT_EQ(client.AwaitDone().error_code(), grpc::StatusCode::CANCELLED);
  promise.set_value();
  router_server_->Stop(absl::Now() + kPatience);  // waits for the call
  EXPECT_EQ(NumOpenRequests(), 0);
}

TEST_F(GenerateCallTest, ACancellationBeforeTheFirstTokenReachesTheRank) {
  streaming_[0].ends = false;
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Question());
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(response.has_started());
  EXPECT_EQ(NumOpenRequests(), 1);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(AwaitNoneOpen());
  rank_servers_[0]->Stop(absl::Now() + kPatience);  // waits for the rank's side
}

// Searches for the shortest answer that stays open if nobody reads it, and cancels all that it tries:
// those that still stream, those that are held back, and near the end of the search those whose rank
// is done while the last messages wait to be written.
TEST_F(GenerateCallTest, ACancellationByAClientThatDoesNotReadLeavesNothingOpen) {
  int fits = 0;
  int stays_open = 10'000;
  while (stays_open - fits > 4) {
    streaming_[0].num_tokens = (fits + stays_open) / 2;
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, LongQuestion());
    AwaitStall();
    (NumOpenRequests() == 0 ? fits : stays_open) = streaming_[0].num_tokens;
    context.TryCancel();
    reader->Finish();
    ASSERT_TRUE(AwaitNoneOpen()) << streaming_[0].num_tokens;
  }
}

TEST_F(GenerateCallTest, ACancellationDuringAStreamLeavesNothingOpen) {
  streaming_[0].num_tokens = 100'000;
  for (const int num_read : {1, 2, 5, 50, 500}) {
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, LongQuestion());
    v1::GenerateResponse response;
    for (int i = 0; i < num_read; ++i) ASSERT_TRUE(reader->Read(&response));
    context.TryCancel();
    reader->Finish();
    EXPECT_TRUE(AwaitNoneOpen()) << num_read;
  }
}

TEST_F(GenerateCallTest, AClientThatReadsLateGetsWhatCameBeforeItsRankDiedAndThenTheRest) {
  constexpr int kNumTokens = 10'000;
  streaming_[0].num_tokens = streaming_[1].num_tokens = kNumTokens;
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + 4 * kPatience);
  const auto reader = stub_->Generate(&context, LongQuestion());
  AwaitStall();
  EXPECT_LT(streaming_[0].num_written, kNumTokens);
  rank_servers_[0]->Stop(absl::Now());
  v1::GenerateResponse response;
  int num_tokens = 0;
  int num_wrong = 0;
  while (reader->Read(&response)) {
    if (response.has_delta()) {
      num_wrong += response.delta().id() != StreamingRank::Id(num_tokens++) ? 1 : 0;
    }
  }
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(num_tokens, kNumTokens);
  EXPECT_EQ(num_wrong, 0);
  EXPECT_GT(streaming_[1].num_written, 0);
  EXPECT_EQ(NumOpenRequests(), 0);
}

TEST_F(GenerateCallTest, StoppingTheRouterEndsOpenCalls) {
  streaming_[0].num_tokens = 1;
  streaming_[1].num_tokens = 100'000;
  streaming_[0].ends = false;
  AsyncClient silent(*stub_, Question());
  ASSERT_TRUE(silent.AwaitToken());
  grpc::ClientContext context;  // held back, on the other rank
  const auto reader = stub_->Generate(&context, LongQuestion());
  router_server_->Stop(absl::Now());
  EXPECT_EQ(NumOpenRequests(), 0);
  EXPECT_FALSE(silent.AwaitDone().ok());
  v1::GenerateResponse response;
  while (reader->Read(&response)) continue;
  EXPECT_FALSE(reader->Finish().ok());
}

class ShortRequestTest : public GenerateCallTest {
 protected:
  static Setup InShort() {
    Setup setup = WithLongAnswers();
    setup.service.max_request_time = absl::Milliseconds(200);
    setup.service.workers.max_waiting_bytes = 4'000;
    return setup;
  }
  ShortRequestTest() : GenerateCallTest(InShort()) {}
};

TEST_F(ShortRequestTest, AClientWithoutADeadlineGetsTheRouters) {
  streaming_[0].num_tokens = 1;
  streaming_[0].ends = false;
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Question());
  v1::GenerateResponse response;
  while (reader->Read(&response)) continue;
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), HasSubstr("after 1 tokens of attention-0"));
}

TEST_F(ShortRequestTest, TooManyRequestsForTheWorkersAreRefused) {
  std::promise<void> release;
  std::vector<std::promise<void>> busy(setup_.service.workers.num_threads);
  const std::shared_future<void> released = release.get_future().share();
  for (std::promise<void>& one : busy) {
    ASSERT_TRUE(service_->workers()
                    .Push(1,
                          [&one, released] {
                            one.set_value();
                            released.wait();
                          })
                    .ok());
    one.get_future().wait();
  }
  ASSERT_TRUE(service_->workers().Push(2'900, [] {}).ok());
  const grpc::Status status = Generate(Question()).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("waiting to be tokenized"));
  release.set_value();
}

class ImpatientTest : public GenerateCallTest {
 protected:
  static Setup Impatient() {
    Setup setup = WithLongAnswers();
    setup.service.max_stall = absl::Milliseconds(200);
    return setup;
  }
  ImpatientTest() : GenerateCallTest(Impatient()) {}
};

// Whether the rank is through with the answer or held back.
TEST_F(ImpatientTest, AClientThatDoesNotReadIsCutOff) {
  for (const int num_tokens : {800, 100'000}) {
    streaming_[0].num_tokens = num_tokens;
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, LongQuestion());
    AwaitStall();
    EXPECT_TRUE(AwaitNoneOpen()) << num_tokens;
    v1::GenerateResponse response;
    while (reader->Read(&response)) continue;
    reader->Finish();
  }
}

}  // namespace
}  // namespace orrery
