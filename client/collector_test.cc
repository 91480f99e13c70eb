#include "client/collector.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerateResponse Started(const std::string& request_id = "r") {
  v1::GenerateResponse response;
  response.mutable_started()->set_request_id(request_id);
  response.mutable_started()->set_resume_token("token");
  return response;
}

v1::GenerateResponse Delta(int choice, int index) {
  v1::GenerateResponse response;
  response.mutable_delta()->set_choice(choice);
  response.mutable_delta()->set_index(index);
  response.mutable_delta()->set_id(100 * choice + index);
  response.mutable_delta()->set_text("x");
  return response;
}

v1::GenerateResponse Finished(int choice) {
  v1::GenerateResponse response;
  response.mutable_finished()->set_choice(choice);
  return response;
}

TEST(Collector, PutsOneAnswerTogetherFromStreamsThatContinueEachOther) {
  Collector collector(3);
  EXPECT_FALSE(collector.can_resume());
  for (const auto& response :
       {Started(), Delta(0, 0), Delta(1, 0), Delta(0, 1), Finished(0), Delta(1, 1)}) {
    ASSERT_TRUE(collector.Add(response).ok());
  }
  v1::Resume resume;
  collector.FillResume(resume);
  EXPECT_EQ(resume.token(), "token");
  EXPECT_EQ(resume.attempt(), 1);
  ASSERT_EQ(resume.received_size(), 3);
  EXPECT_TRUE(resume.received(0).finished());
  EXPECT_THAT(resume.received(1).id(), ElementsAre(100, 101));
  EXPECT_EQ(resume.received(2).id_size(), 0);
  for (const auto& response : {Started(), Delta(2, 0), Finished(2), Delta(1, 2), Finished(1)}) {
    ASSERT_TRUE(collector.Add(response).ok());
  }
  EXPECT_TRUE(collector.is_complete());
  collector.FillResume(resume);
  EXPECT_EQ(resume.attempt(), 2);
  EXPECT_EQ(resume.received_size(), 3);
  const auto answer = collector.Take();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(answer->choice(0).ids, ElementsAre(0, 1));
  EXPECT_THAT(answer->choice(1).ids, ElementsAre(100, 101, 102));
  EXPECT_EQ(answer->choice(1).content, "xxx");
}

TEST(Collector, SaysWhenATokenComesTwiceOrNotAtAll) {
  Collector collector(1);
  ASSERT_TRUE(collector.Add(Started()).ok());
  ASSERT_TRUE(collector.Add(Delta(0, 0)).ok());
  const absl::Status twice = collector.Add(Delta(0, 0));
  EXPECT_EQ(twice.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(twice.message()), HasSubstr("token 0 of choice 0, expected was 1"));
  EXPECT_EQ(collector.Add(Delta(0, 2)).code(), absl::StatusCode::kInternal);
  ASSERT_TRUE(collector.Add(Finished(0)).ok());
  EXPECT_EQ(collector.Add(Delta(0, 1)).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(collector.Add(Finished(0)).code(), absl::StatusCode::kInternal);
}

TEST(Collector, SaysWhenAnotherRequestIsContinued) {
  Collector collector(1);
  ASSERT_TRUE(collector.Add(Started("r")).ok());
  v1::Resume resume;
  collector.FillResume(resume);
  EXPECT_EQ(collector.Add(Started("s")).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(collector.Add(Started("r")).ok());
}

}  // namespace
}  // namespace orrery
