#include "rpc/own_name.h"

#include "gtest/gtest.h"

namespace orrery {
namespace {

TEST(OwnName, IsTheFlagWhereItIsGiven) { EXPECT_EQ(OwnName("expert-3"), "expert-3"); }

TEST(OwnName, IsTheHostsOtherwise) {
  char host[256] = {};
  ASSERT_EQ(::gethostname(host, sizeof(host) - 1), 0);
  EXPECT_EQ(OwnName(""), host);
}

}  // namespace
}  // namespace orrery
