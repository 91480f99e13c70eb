#include "tools/bench/bare_stream/bare_stream.h"

#include "gtest/gtest.h"
#include "rpc/server.h"

namespace orrery {
namespace {

TEST(BareStream, BringsBackWhatWasAskedForOverBothKindsOfSocket) {
  BareEchoService service;
  const auto server = Server::Start({.address = "127.0.0.1:0"}, {&service});
  ASSERT_TRUE(server.ok()) << server.status();
  for (const bool local : {false, true}) {
    const auto bare = BareStream::Open((*server)->address(), local);
    ASSERT_TRUE(bare.ok()) << bare.status();
    for (const size_t size : {size_t{8}, size_t{5000}, size_t{500000}}) {
      const auto time = (*bare)->RoundTrip({.bytes_out = size, .bytes_back = size});
      ASSERT_TRUE(time.ok()) << time.status();
      EXPECT_GT(*time, absl::ZeroDuration());
    }
  }
}

}  // namespace
}  // namespace orrery
