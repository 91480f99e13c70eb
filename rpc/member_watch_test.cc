#include "rpc/member_watch.h"

#include <string>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "rpc/channel.h"
#include "rpc/member_service.h"
#include "rpc/server.h"

namespace orrery {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

TEST(NextPollDelay, IsShorterWhileAMemberIsNotReady) {
  const WatchOptions options;
  EXPECT_EQ(NextPollDelay(options, {.is_ready = true}, 0.5), options.ready_delay);
  EXPECT_EQ(NextPollDelay(options, {.is_ready = false}, 0.5), options.busy_delay);
  EXPECT_EQ(NextPollDelay(options, {.is_ready = false, .num_repeats = 5}, 0.5), options.busy_delay);
}

TEST(NextPollDelay, GrowsWithFailuresUpToItsBound) {
  const WatchOptions options;
  EXPECT_EQ(NextPollDelay(options, {.num_failures = 1}, 0.5), options.busy_delay);
  EXPECT_EQ(NextPollDelay(options, {.num_failures = 3}, 0.5), 4 * options.busy_delay);
  EXPECT_EQ(NextPollDelay(options, {.num_failures = 1'000'000}, 0.5), options.max_failure_delay);
}

TEST(NextPollDelay, GrowsWhileAMemberSaysNothingNewUpToItsBound) {
  const WatchOptions options;
  EXPECT_EQ(NextPollDelay(options, {.is_ready = true, .num_repeats = 1}, 0.5),
            2 * options.ready_delay);
  EXPECT_EQ(NextPollDelay(options, {.is_ready = true, .num_repeats = 1'000'000}, 0.5),
            options.max_ready_delay);
}

TEST(NextPollDelay, IsJitteredByAFifthEitherWay) {
  const WatchOptions options;
  EXPECT_EQ(NextPollDelay(options, {.is_ready = true}, 0.0), 0.8 * options.ready_delay);
  EXPECT_LT(NextPollDelay(options, {.is_ready = true}, 0.999), 1.2 * options.ready_delay);
}

// Asks fast, so that tests need not wait.
WatchOptions Impatient() {
  return {.call_timeout = absl::Seconds(5),
          .ready_delay = absl::Milliseconds(1),
          .max_ready_delay = absl::Milliseconds(10),
          .busy_delay = absl::Milliseconds(1),
          .max_failure_delay = absl::Milliseconds(10)};
}

ServerOptions AnyPort() {
  ServerOptions options;
  options.address = "127.0.0.1:0";
  return options;
}

std::unique_ptr<Server> Serve(MemberService& service) {
  auto server = Server::Start(AnyPort(), {&service});
  EXPECT_TRUE(server.ok()) << server.status();
  return std::move(server).value();
}

TEST(MemberWatch, TellsWhatAMemberSaysAndThatItChanges) {
  internal::MemberDescription description;
  description.set_name("attention-0");
  description.set_state(internal::MEMBER_STATE_LOADING);
  MemberService service(description);
  const std::unique_ptr<Server> server = Serve(service);
  absl::Notification loading, ready;
  MemberWatch watch(
      {MakeChannel(server->address(), {}).value()}, Impatient(),
      [&](int member, const absl::StatusOr<internal::MemberDescription>& answer) {
        EXPECT_EQ(member, 0);
        ASSERT_TRUE(answer.ok()) << answer.status();
        if (answer->state() == internal::MEMBER_STATE_LOADING && !loading.HasBeenNotified()) {
          loading.Notify();
        }
        if (answer->state() == internal::MEMBER_STATE_READY && !ready.HasBeenNotified()) {
          ready.Notify();
        }
      });
  ASSERT_TRUE(loading.WaitForNotificationWithTimeout(kPatience));
  service.Update(
      [](internal::MemberDescription& said) { said.set_state(internal::MEMBER_STATE_READY); });
  EXPECT_TRUE(ready.WaitForNotificationWithTimeout(kPatience));
  watch.Stop();
}

TEST(MemberWatch, TellsThatAMemberHasGoneAndThatAnotherIsStillThere) {
  MemberService service_0({}), service_1({});
  std::unique_ptr<Server> server_0 = Serve(service_0);
  const std::unique_ptr<Server> server_1 = Serve(service_1);
  absl::Notification answered, gone, other_answered;
  MemberWatch watch(
      {MakeChannel(server_0->address(), {}).value(), MakeChannel(server_1->address(), {}).value()},
      Impatient(), [&](int member, const absl::StatusOr<internal::MemberDescription>& answer) {
        if (member == 0) {
          if (answer.ok() && !answered.HasBeenNotified()) answered.Notify();
          if (!answer.ok() && !gone.HasBeenNotified()) gone.Notify();
        } else if (answer.ok() && gone.HasBeenNotified() && !other_answered.HasBeenNotified()) {
          other_answered.Notify();
        }
      });
  ASSERT_TRUE(answered.WaitForNotificationWithTimeout(kPatience));
  server_0.reset();
  EXPECT_TRUE(gone.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(other_answered.WaitForNotificationWithTimeout(kPatience));
}

TEST(MemberWatch, TellsMembersWhatIsToBeToldEachTime) {
  MemberService service({});
  absl::Notification first, second;
  service.SetOnAsked([&](const internal::DescribeRequest& request) {
    ASSERT_EQ(request.convicted_size(), 1);
    if (request.convicted(0) == 1 && !first.HasBeenNotified()) first.Notify();
    if (request.convicted(0) == 2 && !second.HasBeenNotified()) second.Notify();
  });
  const std::unique_ptr<Server> server = Serve(service);
  MemberWatch watch(
      {MakeChannel(server->address(), {}).value()}, Impatient(),
      [](int, const absl::StatusOr<internal::MemberDescription>&) {},
      [&] {
        internal::DescribeRequest request;
        request.add_convicted(first.HasBeenNotified() ? 2 : 1);
        return request;
      });
  EXPECT_TRUE(first.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(second.WaitForNotificationWithTimeout(kPatience));
}

// A member that takes every question and never answers.
class SilentMember : public internal::Member::Service {
 public:
  grpc::Status Describe(grpc::ServerContext*, const internal::DescribeRequest*,
                        internal::MemberDescription*) override {
    if (!asked.HasBeenNotified()) asked.Notify();
    released.WaitForNotificationWithTimeout(kPatience);
    return grpc::Status::OK;
  }
  absl::Notification asked;
  absl::Notification released;
};

TEST(MemberWatch, StopsWhileAMemberIsSilent) {
  SilentMember silent;
  auto server = Server::Start(AnyPort(), {&silent});
  ASSERT_TRUE(server.ok()) << server.status();
  WatchOptions options = Impatient();
  options.call_timeout = absl::Hours(1);
  MemberWatch watch({MakeChannel((*server)->address(), {}).value()}, options,
                    [](int, const absl::StatusOr<internal::MemberDescription>&) {
                      ADD_FAILURE() << "told after Stop()";
                    });
  ASSERT_TRUE(silent.asked.WaitForNotificationWithTimeout(kPatience));
  watch.Stop();
  silent.released.Notify();
}

}  // namespace
}  // namespace orrery
