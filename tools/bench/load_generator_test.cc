#include "tools/bench/load_generator.h"

#include <algorithm>
#include <memory>

#include "absl/algorithm/container.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/server.h"

namespace orrery {
namespace {

// Answers with as many tokens as asked for, or without end, and remembers the requests.
class FakeRouter : public v1::Orrery::Service {
 public:
  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    Enter(*request);
    const grpc::Status status = Answer(*request, *writer);
    absl::MutexLock lock(&mutex_);
    --num_open_;
    return status;
  }

  std::vector<v1::GenerateRequest> requests() {
    absl::MutexLock lock(&mutex_);
    return requests_;
  }
  int max_open() {
    absl::MutexLock lock(&mutex_);
    return max_open_;
  }
  // Whether every call has ended.
  bool WaitUntilIdle(absl::Duration patience) {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(
                                       +[](int* num_open) { return *num_open == 0; }, &num_open_),
                                   patience);
  }

  bool is_endless = false;
  grpc::Status end;

 private:
  void Enter(const v1::GenerateRequest& request) {
    absl::MutexLock lock(&mutex_);
    requests_.push_back(request);
    max_open_ = std::max(max_open_, ++num_open_);
  }

  grpc::Status Answer(const v1::GenerateRequest& request,
                      grpc::ServerWriter<v1::GenerateResponse>& writer) const {
    if (!end.ok()) return end;
    v1::GenerateResponse response;
    response.mutable_started()->set_prompt_tokens(request.ids().id_size());
    writer.Write(response);
    // Write fails once the client has gone.
    for (int i = 0; is_endless || i < request.max_new_tokens(); ++i) {
      response.mutable_delta()->set_id(i);
      if (!writer.Write(response)) return grpc::Status::CANCELLED;
    }
    v1::Usage& usage = *response.mutable_finished()->mutable_usage();
    usage.set_prompt_tokens(request.ids().id_size());
    usage.set_output_tokens(request.max_new_tokens());
    writer.Write(response);
    return grpc::Status::OK;
  }

  absl::Mutex mutex_;
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  int num_open_ ABSL_GUARDED_BY(mutex_) = 0;
  int max_open_ ABSL_GUARDED_BY(mutex_) = 0;
};

class LoadGeneratorTest : public ::testing::Test {
 protected:
  LoadGeneratorTest() {
    ServerOptions options;
    options.address = "127.0.0.1:0";
    auto server = Server::Start(options, {&router_});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    load_.tenant = "A";
    load_.priority = 3;
    load_.concurrency = 4;
    load_.prompt_tokens = {.min = 5, .max = 9};
    load_.output_tokens = {.min = 2, .max = 6};
  }

  absl::StatusOr<PhaseRecord> Run(const Phase& phase,
                                  const std::function<bool()>& should_stop = {}) {
    LoadGenerator::Options options;
    options.address = server_->address();
    options.common.set_temperature(0.5f);
    options.token_pool = {10, 20, 30};
    return LoadGenerator(options).Run(phase, should_stop);
  }
  LoadRecord RunOne(const Phase& phase) {
    const auto record = Run(phase);
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() ? record->loads.at(0) : LoadRecord();
  }
  void ExpectNothingIsLeftOpen() { EXPECT_TRUE(router_.WaitUntilIdle(absl::Minutes(1))); }

  FakeRouter router_;
  std::unique_ptr<Server> server_;
  Load load_;
};

TEST_F(LoadGeneratorTest, AClosedLoopSendsItsNumberAndNeverMoreThanItsClients) {
  const LoadRecord record = RunOne({.loads = {load_}, .num_requests = 50});
  ASSERT_EQ(record.requests.size(), 50);
  EXPECT_LE(router_.max_open(), 4);
  EXPECT_EQ(router_.requests().size(), 50);
  for (const RequestRecord& request : record.requests) {
    EXPECT_TRUE(request.status.ok()) << request.status;
    EXPECT_TRUE(request.is_measured);
    EXPECT_EQ(request.tokens.size(), request.output_tokens);
    EXPECT_EQ(request.usage.prompt_tokens(), request.prompt_tokens);
    EXPECT_LE(request.arrival, request.sent);
    EXPECT_LE(request.sent, request.tokens.front());
    EXPECT_TRUE(absl::c_is_sorted(request.tokens));
    EXPECT_LE(request.tokens.back(), request.end);
  }
}

TEST_F(LoadGeneratorTest, RequestsSayWhatTheLoadSays) {
  RunOne({.loads = {load_}, .num_requests = 20});
  for (const v1::GenerateRequest& request : router_.requests()) {
    EXPECT_EQ(request.tenant(), "A");
    EXPECT_EQ(request.priority(), 3);
    EXPECT_EQ(request.temperature(), 0.5f);
    EXPECT_TRUE(request.ignore_eos());
    EXPECT_TRUE(request.has_seed());
    EXPECT_GE(request.ids().id_size(), 5);
    EXPECT_LE(request.ids().id_size(), 9);
    EXPECT_GE(request.max_new_tokens(), 2);
    EXPECT_LE(request.max_new_tokens(), 6);
    for (const int id : request.ids().id()) EXPECT_TRUE(id == 10 || id == 20 || id == 30);
  }
}

// A microsecond between arrivals: with one request at a time each but the first is late, and says
// so.
TEST_F(LoadGeneratorTest, AnOpenLoopCountsFromWhenARequestWasDue) {
  load_.concurrency = 0;
  load_.rate = 1e6;
  load_.arrivals = Arrivals::kRegular;
  load_.max_concurrency = 1;
  const LoadRecord record = RunOne({.loads = {load_}, .num_requests = 10});
  ASSERT_EQ(record.requests.size(), 10);
  EXPECT_EQ(router_.max_open(), 1);
  for (size_t i = 1; i < record.requests.size(); ++i) {
    if (i > 1) {
      EXPECT_EQ(record.requests[i].arrival - record.requests[i - 1].arrival, absl::Microseconds(1));
    }
    EXPECT_GE(record.requests[i].sent, record.requests[i - 1].end);
  }
}

TEST_F(LoadGeneratorTest, WhatCouldNotBeSentInTimeIsCounted) {
  router_.is_endless = true;
  load_.concurrency = 0;
  load_.rate = 1e4;
  load_.arrivals = Arrivals::kRegular;
  load_.max_concurrency = 2;
  const LoadRecord record =
      RunOne({.loads = {load_}, .duration = absl::Milliseconds(100), .cut_at_end = true});
  // Due at 0.1 ms, 0.2 ms and so on, before 100 ms.
  EXPECT_EQ(record.requests.size(), 2);
  EXPECT_EQ(record.num_unsent, 997);
  for (const RequestRecord& request : record.requests) EXPECT_TRUE(request.was_cut);
  ExpectNothingIsLeftOpen();
}

TEST_F(LoadGeneratorTest, ErrorsArePartOfTheRecord) {
  router_.end = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  const LoadRecord record = RunOne({.loads = {load_}, .num_requests = 6});
  ASSERT_EQ(record.requests.size(), 6);
  for (const RequestRecord& request : record.requests) {
    EXPECT_EQ(request.status, absl::ResourceExhaustedError("full"));
    EXPECT_FALSE(request.was_cut);
    EXPECT_TRUE(request.tokens.empty());
  }
}

TEST_F(LoadGeneratorTest, ClientsGoAwayWhetherTheyReadOrNot) {
  router_.is_endless = true;
  load_.disconnect_within = absl::Milliseconds(20);
  Load silent = load_;
  silent.reads = false;
  const auto record = Run({.loads = {load_, silent}, .num_requests = 10});
  ASSERT_TRUE(record.ok()) << record.status();
  for (const LoadRecord& load : record->loads) {
    EXPECT_EQ(load.requests.size(), 10);
    for (const RequestRecord& request : load.requests) {
      EXPECT_TRUE(request.was_cut);
      EXPECT_EQ(request.status.code(), absl::StatusCode::kCancelled);
    }
  }
  ExpectNothingIsLeftOpen();
}

TEST_F(LoadGeneratorTest, TheWarmUpIsNotMeasured) {
  const LoadRecord record =
      RunOne({.loads = {load_}, .warmup = absl::Milliseconds(20), .num_requests = 5});
  const auto num_measured =
      absl::c_count_if(record.requests, [](const RequestRecord& r) { return r.is_measured; });
  EXPECT_EQ(num_measured, 5);
  EXPECT_GT(record.requests.size(), 5);
}

TEST_F(LoadGeneratorTest, EndsWhenAskedToAndLeavesNothingOpen) {
  router_.is_endless = true;
  int num_asked = 0;
  const auto record =
      Run({.loads = {load_}, .duration = absl::Hours(1)}, [&] { return ++num_asked == 2; });
  EXPECT_EQ(record.status().code(), absl::StatusCode::kCancelled);
  ExpectNothingIsLeftOpen();
}

}  // namespace
}  // namespace orrery
