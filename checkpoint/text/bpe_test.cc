#include "checkpoint/text/bpe.h"

#include <numeric>
#include <random>
#include <string>

#include "gtest/gtest.h"

namespace orrery {
namespace {

std::array<int32_t, 256> ByteIds() {
  std::array<int32_t, 256> ids;
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

std::vector<int32_t> Encode(const BytePairEncoder& bpe, std::string_view bytes) {
  std::vector<int32_t> ids;
  bpe.Encode(bytes, ids);
  return ids;
}

TEST(BytePairEncoder, MergesTheLowestRankFirst) {
  BytePairEncoder bpe(ByteIds());
  EXPECT_TRUE(bpe.AddMerge('b', 'c', 256));
  EXPECT_TRUE(bpe.AddMerge('a', 'b', 257));
  EXPECT_EQ(Encode(bpe, "abc"), (std::vector<int32_t>{'a', 256}));
  EXPECT_EQ(Encode(bpe, "ab"), (std::vector<int32_t>{257}));
  EXPECT_EQ(Encode(bpe, ""), (std::vector<int32_t>{}));
}

TEST(BytePairEncoder, MergesTheLeftmostOfEqualRank) {
  BytePairEncoder bpe(ByteIds());
  bpe.AddMerge('a', 'a', 256);
  EXPECT_EQ(Encode(bpe, "aaa"), (std::vector<int32_t>{256, 'a'}));
  bpe.AddMerge(256, 256, 257);
  EXPECT_EQ(Encode(bpe, "aaaaa"), (std::vector<int32_t>{257, 'a'}));
}

TEST(BytePairEncoder, RefusesASecondMergeOfOnePair) {
  BytePairEncoder bpe(ByteIds());
  EXPECT_TRUE(bpe.AddMerge('a', 'b', 256));
  EXPECT_FALSE(bpe.AddMerge('a', 'b', 257));
}

// The definition, word by word.
std::vector<int32_t> EncodeSlowly(const std::vector<std::array<int32_t, 3>>& merges,
                                  std::string_view bytes) {
  std::vector<int32_t> ids;
  for (const char byte : bytes) ids.push_back(static_cast<uint8_t>(byte));
  while (true) {
    size_t best_rank = merges.size(), best_position = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank][0] == ids[i] && merges[rank][1] == ids[i + 1]) {
          best_rank = rank;
          best_position = i;
        }
      }
    }
    if (best_rank == merges.size()) return ids;
    ids[best_position] = merges[best_rank][2];
    ids.erase(ids.begin() + best_position + 1);
  }
}

// Merges in any order of ranks, not only in one that training could give.
TEST(BytePairEncoder, FollowsTheDefinitionOnRandomMergesAndTexts) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    BytePairEncoder bpe(ByteIds());
    std::vector<std::array<int32_t, 3>> merges;
    std::vector<int32_t> known = {'a', 'b', 'c'};
    for (int32_t id = 256; id < 270; ++id) {
      const int32_t left = known[random() % known.size()];
      const int32_t right = known[random() % known.size()];
      if (bpe.AddMerge(left, right, id)) {
        merges.push_back({left, right, id});
        known.push_back(id);
      }
    }
    std::string text;
    for (int i = 0; i < 60; ++i) text.push_back("abc"[random() % 3]);
    ASSERT_EQ(Encode(bpe, text), EncodeSlowly(merges, text)) << text;
  }
}

// A quadratic encoder would take minutes here.
TEST(BytePairEncoder, TakesOneLongPiece) {
  BytePairEncoder bpe(ByteIds());
  int32_t doubled = 'a';
  for (int32_t id = 256; id < 266; ++id) {
    bpe.AddMerge(doubled, doubled, id);
    doubled = id;
  }
  EXPECT_EQ(Encode(bpe, std::string(1 << 20, 'a')).size(), 1024u);
}

}  // namespace
}  // namespace orrery
