#include "tools/bench/exchange/exchange_bench.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "rpc/test_certificates.h"
#include "tools/bench/exchange/echo_shard.h"
#include "tools/bench/exchange/exchange_report.h"
#include "tools/launch/topology.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

class ExchangeBenchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto ports = PickFreePorts(3);
    ASSERT_TRUE(ports.ok()) << ports.status();
    options_.address = "127.0.0.1:" + std::to_string((*ports)[0]);
    options_.bare_address = "127.0.0.1:" + std::to_string((*ports)[1]);
    options_.tls_address = "127.0.0.1:" + std::to_string((*ports)[2]);
    options_.num_rounds = 2;
    options_.tls = MakeTestCertificates("rank");
    auto shard = EchoShard::Start({.exchange = ExchangeOptionsOf(options_.shape),
                                   .address = options_.address,
                                   .bare_address = options_.bare_address,
                                   .tls_address = options_.tls_address,
                                   .tls = MakeTestCertificates("shard")});
    ASSERT_TRUE(shard.ok()) << shard.status();
    shard_ = *std::move(shard);
  }
  ExchangeBenchOptions options_;
  std::unique_ptr<EchoShard> shard_;
};

TEST_F(ExchangeBenchTest, MeasuresEveryWayAtEveryNumberOfRows) {
  options_.rows = {1, 40};  // 40 rows bring more back than one frame holds
  int num_seen = 0;
  options_.on_figures = [&](const ExchangeFigures&) { ++num_seen; };
  const auto result = RunExchangeBench(options_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->figures.size(), 10u);
  EXPECT_EQ(num_seen, 10);
  for (const ExchangeFigures& row : result->figures) {
    EXPECT_GT(row.exchange_us, 0.0) << row.way;
    EXPECT_EQ(row.bare_us.has_value(), row.way == "grpc-tcp" || row.way == "grpc-unix") << row.way;
    EXPECT_EQ(row.over_tcp.has_value(), row.way == "grpc-tls") << row.way;
    EXPECT_GT(row.bytes_back, row.bytes_out);
  }
  EXPECT_EQ(result->targets.size(), 4u);
  EXPECT_THAT(ExchangeRowText(result->figures[3]), HasSubstr("shm"));
  const auto json = nlohmann::json::parse(ExchangeJson("orrery", options_.shape, *result));
  EXPECT_EQ(json["rows"].size(), 10u);
  EXPECT_TRUE(json["rows"][3]["bare_us"].is_null());
}

TEST_F(ExchangeBenchTest, HoldsIfEveryTargetDoes) {
  ExchangeBenchResult result;
  result.targets = {{.text = "a", .value = 1, .held = true}, {.text = "b", .value = 2}};
  EXPECT_FALSE(result.held());
  EXPECT_THAT(ExchangeEndText(result), HasSubstr("MISSED  2.00  b"));
  result.targets[1].held = true;
  EXPECT_TRUE(result.held());
}

}  // namespace
}  // namespace orrery
