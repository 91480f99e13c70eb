#include "exchange/factory/rank_exchange.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

RankExchangeOptions Options(Transport transport) {
  return {.exchange = {.numerics_id = "test", .row_bytes = 4, .result_bytes = 4},
          .rank_name = "rank",
          .peers = {{"shard", "127.0.0.1:1"}},
          .transport = transport};
}

// On a machine without a GPU, whatever the build; each names what is missing.
TEST(RankExchangeFactory, RefusesWhatIsForGpusWhereItCannotBe) {
  for (const Transport transport : {Transport::kNccl, Transport::kCudaIpc}) {
    const absl::StatusOr<std::unique_ptr<RankExchange>> made = MakeRankExchange(Options(transport));
    if (made.ok()) GTEST_SKIP() << "this machine has a GPU";
    EXPECT_THAT(std::string(made.status().message()),
                ::testing::AnyOf(::testing::HasSubstr("build with --config=cuda"),
                                 ::testing::HasSubstr("no CUDA device")));
  }
}

TEST(RankExchangeFactory, GoesWithoutCudaIpcWhereNobodyAskedForIt) {
  RankExchangeOptions options = Options(Transport::kAuto);
  options.is_on_gpu = true;
  EXPECT_TRUE(MakeRankExchange(options).ok());
}

}  // namespace
}  // namespace orrery
