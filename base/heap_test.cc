#include "base/heap.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace orrery {
namespace {

int64_t PagesTaken() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHasOtherHeap = true;
#else
constexpr bool kHasOtherHeap = false;
#endif

TEST(KeepFreedMemory, BlocksThatComeAndGoTakeNoNewPages) {
  if (kHasOtherHeap) GTEST_SKIP() << "the sanitizer has a heap of its own";
  KeepFreedMemory();
  constexpr size_t kFrameBytes = 512 * 1024;
  constexpr int kNumFrames = 16;
  const auto come_and_go = [&] {
    std::vector<std::string> frames;
    for (int i = 0; i < kNumFrames; ++i) frames.emplace_back(kFrameBytes, 'x');
  };
  come_and_go();
  const int64_t before = PagesTaken();
  for (int i = 0; i < 20; ++i) come_and_go();
  // With the usual settings it is every page, every time.
  constexpr int64_t kPagesOfOneTime = kNumFrames * kFrameBytes / 4096;
  EXPECT_LT(PagesTaken() - before, kPagesOfOneTime);
}

int64_t ResidentPages() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident;
}

TEST(GiveBackFreedMemory, WhatAPeakLeftBehindGoesBackThoughSmallBlocksLieBetween) {
  if (kHasOtherHeap) GTEST_SKIP() << "the sanitizer has a heap of its own";
  KeepFreedMemory();
  constexpr int kNumBlocks = 1000;
  std::vector<std::string> peak, between;
  std::thread([&] {  // most of what servers do is done in threads
    for (int i = 0; i < kNumBlocks; ++i) {
      peak.emplace_back(32 * 1024, 'x');
      between.emplace_back(100, 'x');
    }
    for (int i = 0; i < kNumBlocks; ++i) peak.emplace_back(32 * 1024, 'x');
  })
      .join();
  const int64_t before = ResidentPages();
  peak.clear();
  GiveBackFreedMemory();
  constexpr int64_t kPagesOfPeak = 2 * kNumBlocks * 32 * 1024 / 4096;
  EXPECT_LT(ResidentPages(), before - kPagesOfPeak * 3 / 4);
}

}  // namespace
}  // namespace orrery
