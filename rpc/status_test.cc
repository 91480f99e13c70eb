#include "rpc/status.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(Status, KeepsCodeAndMessageBothWays) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
  EXPECT_EQ(ToGrpcStatus(absl::NotFoundError("x")).error_code(), grpc::StatusCode::NOT_FOUND);
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "the reason");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status);
  }
}

TEST(Status, MakesAnUnknownCodeOfANumberThatIsNone) {
  const grpc::Status strange(static_cast<grpc::StatusCode>(77), "strange");
  EXPECT_EQ(FromGrpcStatus(strange), absl::UnknownError("strange"));
}

TEST(Status, CutsALongMessageBetweenCharacters) {
  std::string text(kMaxStatusBytes - 1, 'x');
  text += "\xc3\xa9 and more";  // e with an acute accent: two bytes over the border
  const std::string cut = ToGrpcStatus(absl::InternalError(text)).error_message();
  EXPECT_EQ(cut, std::string(kMaxStatusBytes - 1, 'x'));
}

}  // namespace
}  // namespace orrery
