#include "rpc/address.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(HostPort, TakesNamesAndAddressesApart) {
  EXPECT_EQ(ParseHostPort("expert-3.example:7420")->host, "expert-3.example");
  EXPECT_EQ(ParseHostPort("expert-3.example:7420")->port, 7420);
  EXPECT_EQ(ParseHostPort("127.0.0.1:0")->port, 0);
  EXPECT_EQ(ParseHostPort("[::1]:65535")->host, "::1");
}

TEST(HostPort, JoinsWhatItTookApart) {
  for (const char* text : {"localhost:1", "10.0.0.7:7420", "[fe80::1]:80"}) {
    EXPECT_EQ(JoinHostPort(*ParseHostPort(text)), text);
  }
}

TEST(HostPort, SaysWhatIsWrongWithAnAddress) {
  for (const char* text : {"", "host", "host:", ":80", "host:x", "host:80x", "host:65536",
                           "host:-1", "::1:80", "[]:80"}) {
    const absl::Status status = ParseHostPort(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_NE(status.message().find(text), absl::string_view::npos) << status;
  }
}

TEST(HostPort, KnowsLoopbackAddresses) {
  for (const char* text :
       {"localhost:1", "LOCALHOST:1", "127.0.0.1:1", "127.8.9.10:1", "[::1]:1"}) {
    EXPECT_TRUE(IsLoopback(*ParseHostPort(text))) << text;
  }
  for (const char* text :
       {"0.0.0.0:1", "[::]:1", "128.0.0.1:1", "127.0.0.1.example:1", "host:1", "[::2]:1"}) {
    EXPECT_FALSE(IsLoopback(*ParseHostPort(text))) << text;
  }
}

}  // namespace
}  // namespace orrery
