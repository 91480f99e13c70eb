#include "tests/gpu_check/targets.h"

#include <gtest/gtest.h>

namespace orrery {
namespace {

KernelFigures Row(const std::string& operation, const std::string& format, int num_rows,
                  double share) {
  KernelFigures row;
  row.what = {.operation = operation, .format = format, .num_rows = num_rows, .shape = ""};
  row.seconds.median = 1e-5;
  row.share.median = share;
  return row;
}

TEST(Targets, SayWhetherAnAimWasHeld) {
  EXPECT_EQ(
      TargetLines({Row("feed_forward", "w8a8", 256, 0.61), Row("feed_forward", "w8a8", 16, 0.84),
                   Row("feed_forward", "fp8", 1, 0.86), Row("feed_forward", "fp8", 256, 0.4),
                   Row("feed_forward", "w8a8", 64, 0.5), Row("feed_forward", "bf16", 1, 0.5),
                   Row("attend_decode_4096", "bf16", 64, 0.75),
                   Row("attend_decode_4096", "bf16", 1, 0.1), Row("gate", "f32", 4, 0.9)}),
      (std::vector<std::string>{
          "feed_forward/w8a8/256: 10.0 us, 61.0% of memory, aim 60%: held",
          "feed_forward/w8a8/16: 10.0 us, 84.0% of memory, aim 85%: missed",
          "feed_forward/fp8/1: 10.0 us, 86.0% of memory, aim 85%: held",
          "attend_decode_4096/bf16/64: 10.0 us, 75.0% of memory, aim 75%: held",
          "gate/f32/4: 10.0 us, 90.0% of memory, aim 80%: held"}));
}

}  // namespace
}  // namespace orrery
