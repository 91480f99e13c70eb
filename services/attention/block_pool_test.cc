#include "services/attention/block_pool.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace orrery {
namespace {

constexpr int kBlockTokens = 4;

BlockPool Make(int num_blocks, bool keep_prefixes = true) {
  return BlockPool({.num_blocks = num_blocks,
                    .block_tokens = kBlockTokens,
                    .keep_prefixes = keep_prefixes,
                    .hash_key = 7});
}

std::vector<int32_t> Ids(int num, int32_t first = 100) {
  std::vector<int32_t> ids(num);
  for (int i = 0; i < num; ++i) ids[i] = first + i;
  return ids;
}

// As a sequence that computes all of its ids.
BlockList Compute(BlockPool& pool, std::string_view salt, const std::vector<int32_t>& ids) {
  BlockList blocks;
  pool.Match(salt, ids, blocks);
  EXPECT_TRUE(pool.Reserve(static_cast<int>(ids.size()), blocks));
  pool.Publish(salt, ids, static_cast<int>(ids.size()), blocks);
  return blocks;
}

TEST(BlockPool, ReservesWholeBlocksAndExtendsOnlyWhenTheLastIsFull) {
  BlockPool pool = Make(4);
  BlockList blocks;
  EXPECT_TRUE(pool.Reserve(0, blocks));
  EXPECT_TRUE(blocks.ids.empty());
  EXPECT_TRUE(pool.Reserve(1, blocks));
  EXPECT_TRUE(pool.Reserve(kBlockTokens, blocks));
  EXPECT_EQ(blocks.ids.size(), 1u);
  EXPECT_TRUE(pool.Reserve(kBlockTokens + 1, blocks));
  EXPECT_EQ(blocks.ids.size(), 2u);
  EXPECT_EQ(pool.num_free(), 2);
  pool.Release(blocks);
  EXPECT_TRUE(blocks.ids.empty());
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.num_references(), 0);
}

TEST(BlockPool, ForgetAllFindsNothingAndKeepsWhatIsUsed) {
  BlockPool pool = Make(4);
  BlockList used = Compute(pool, "", Ids(8));
  BlockList left = Compute(pool, "x", Ids(8));
  pool.Release(left);
  EXPECT_EQ(pool.num_cached(), 2);
  pool.ForgetAll();
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.num_references(), 2);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 0);
  EXPECT_EQ(pool.Peek("x", Ids(8)).num_tokens, 0);
  pool.Release(used);
  EXPECT_EQ(pool.num_free(), 4);
  BlockList again = Compute(pool, "", Ids(8));
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 8);
  pool.Release(again);
}

// Found blocks cost nothing if somebody uses them, and count as free if nobody does.
TEST(BlockPool, PeekSaysHowManyOfTheFoundBlocksAreInUse) {
  BlockPool pool = Make(4);
  BlockList longer = Compute(pool, "", Ids(8));
  BlockList shorter;
  EXPECT_EQ(pool.Match("", Ids(4), shorter), 4);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_used_blocks, 2);
  pool.Release(longer);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_used_blocks, 1);
  pool.Release(shorter);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_used_blocks, 0);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 8);
}

TEST(BlockPool, TheVersionChangesWheneverPeekMayAnswerDifferently) {
  BlockPool pool = Make(2);
  uint64_t last = pool.version();
  const auto has_changed = [&] {
    const uint64_t before = std::exchange(last, pool.version());
    return before != last;
  };
  BlockList blocks;
  ASSERT_TRUE(pool.Reserve(kBlockTokens, blocks));
  EXPECT_FALSE(has_changed()) << "a block that nobody can find";
  pool.Publish("", Ids(4), 4, blocks);
  EXPECT_TRUE(has_changed()) << "it can be found";
  pool.Release(blocks);
  EXPECT_TRUE(has_changed()) << "nobody uses it";
  EXPECT_EQ(pool.Match("", Ids(4), blocks), 4);
  EXPECT_TRUE(has_changed()) << "somebody uses it";
  pool.Release(blocks);
  EXPECT_TRUE(has_changed());
  ASSERT_TRUE(pool.Reserve(2 * kBlockTokens, blocks));
  EXPECT_TRUE(has_changed()) << "it was evicted";
}

TEST(BlockPool, TakesNothingWhenTooFewBlocksAreFree) {
  BlockPool pool = Make(3);
  BlockList first, second;
  EXPECT_TRUE(pool.Reserve(2 * kBlockTokens, first));
  EXPECT_FALSE(pool.Reserve(2 * kBlockTokens, second));
  EXPECT_TRUE(second.ids.empty());
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(BlockPool, FindsTheLongestKnownPrefixInWholeBlocks) {
  BlockPool pool = Make(10);
  BlockList blocks = Compute(pool, "salt", Ids(10));
  EXPECT_EQ(pool.Peek("salt", Ids(10)).num_tokens, 8);
  EXPECT_EQ(pool.Peek("salt", Ids(7)).num_tokens, 4);
  EXPECT_EQ(pool.Peek("salt", Ids(3)).num_tokens, 0);
  std::vector<int32_t> other = Ids(12);
  other[5] = 1;
  EXPECT_EQ(pool.Peek("salt", other).num_tokens, 4);
  other[0] = 1;
  EXPECT_EQ(pool.Peek("salt", other).num_tokens, 0);

  BlockList sharing;
  EXPECT_EQ(pool.Match("salt", Ids(9), sharing), 8);
  EXPECT_EQ(sharing.ids, std::vector<int32_t>(blocks.ids.begin(), blocks.ids.begin() + 2));
  EXPECT_EQ(pool.NumOwn(sharing), 0);
  EXPECT_EQ(pool.NumOwn(blocks), 1);
  pool.Release(blocks);
  EXPECT_EQ(pool.NumOwn(sharing), 2);
  pool.Release(sharing);
  EXPECT_EQ(pool.num_free(), 10);
  EXPECT_EQ(pool.num_cached(), 2);
}

TEST(BlockPool, DifferentSaltsNeverMeet) {
  BlockPool pool = Make(10);
  BlockList blocks = Compute(pool, "a", Ids(8));
  EXPECT_EQ(pool.Peek("b", Ids(8)).num_tokens, 0);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 0);
  BlockList theirs = Compute(pool, "b", Ids(8));
  std::set<int32_t> all(blocks.ids.begin(), blocks.ids.end());
  all.insert(theirs.ids.begin(), theirs.ids.end());
  EXPECT_EQ(all.size(), 4u);
}

TEST(BlockPool, TheSameIdsBehindAnotherPrefixAreAnotherBlock) {
  BlockPool pool = Make(10);
  std::vector<int32_t> ids = Ids(4);
  ids.insert(ids.end(), {1, 2, 3, 4});
  std::vector<int32_t> other = Ids(4, /*first=*/500);
  other.insert(other.end(), {1, 2, 3, 4});
  BlockList blocks = Compute(pool, "", ids);
  EXPECT_EQ(pool.Peek("", other).num_tokens, 0);
  BlockList others = Compute(pool, "", other);
  EXPECT_NE(blocks.ids[1], others.ids[1]);
  EXPECT_EQ(pool.Peek("", other).num_tokens, 8);
}

TEST(BlockPool, OnlyWhatWasComputedIsKnown) {
  BlockPool pool = Make(10);
  BlockList blocks;
  EXPECT_TRUE(pool.Reserve(12, blocks));
  pool.Publish("", Ids(12), 7, blocks);
  EXPECT_EQ(pool.Peek("", Ids(12)).num_tokens, 4);
  pool.Publish("", Ids(12), 12, blocks);
  EXPECT_EQ(pool.Peek("", Ids(12)).num_tokens, 12);
}

TEST(BlockPool, EvictsTheLeastRecentlyUsedAndTheEndOfAPrefixBeforeItsBeginning) {
  BlockPool pool = Make(4);
  BlockList old = Compute(pool, "", Ids(8));
  pool.Release(old);
  BlockList young = Compute(pool, "", Ids(8, /*first=*/500));
  pool.Release(young);
  EXPECT_EQ(pool.num_free(), 4);
  BlockList blocks;
  EXPECT_TRUE(pool.Reserve(1, blocks));
  EXPECT_EQ(pool.num_evictions(), 1);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 4);
  EXPECT_EQ(pool.Peek("", Ids(8, /*first=*/500)).num_tokens, 8);
  // Use makes it young again.
  EXPECT_EQ(pool.Match("", Ids(4), old), 4);
  pool.Release(old);
  EXPECT_TRUE(pool.Reserve(3 * kBlockTokens, blocks));
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 4);
  EXPECT_EQ(pool.Peek("", Ids(8, /*first=*/500)).num_tokens, 0);
}

TEST(BlockPool, TwoThatComputeTheSameAtTheSameTimeKeepTheirOwnBlocksAndShareWhatFollows) {
  BlockPool pool = Make(10);
  BlockList first, second;
  EXPECT_TRUE(pool.Reserve(12, first));
  EXPECT_TRUE(pool.Reserve(12, second));
  pool.Publish("", Ids(12), 4, first);
  pool.Publish("", Ids(12), 8, second);  // its second block hangs on the first block of the other
  EXPECT_EQ(pool.Peek("", Ids(12)).num_tokens, 8);
  BlockList third;
  EXPECT_EQ(pool.Match("", Ids(12), third), 8);
  EXPECT_EQ(third.ids, (std::vector<int32_t>{first.ids[0], second.ids[1]}));
}

TEST(BlockPool, AKnownBlockBehindALostPrefixGivesItsNameToTheNext) {
  BlockPool pool = Make(4);
  BlockList first, second, all;
  EXPECT_TRUE(pool.Reserve(8, first));
  EXPECT_TRUE(pool.Reserve(8, second));
  pool.Publish("", Ids(8), 4, first);
  pool.Publish("", Ids(8), 8, second);  // its second block hangs on first's first
  pool.Release(first);
  EXPECT_TRUE(pool.Reserve(2 * kBlockTokens, all));  // takes that away
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 0);
  pool.Release(all);
  pool.Release(second);
  BlockList again = Compute(pool, "", Ids(8));
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 8);
  pool.Release(again);
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.num_references(), 0);
}

TEST(BlockPool, AForkSharesFullBlocksAndCopiesThePartialOne) {
  BlockPool pool = Make(4);
  BlockList parent = Compute(pool, "", Ids(10));
  BlockList child;
  const auto copy = pool.Fork(parent, 10, child);
  ASSERT_TRUE(copy.has_value());
  EXPECT_EQ(copy->from, parent.ids[2]);
  EXPECT_EQ(copy->to, child.ids[2]);
  EXPECT_EQ(child.ids[0], parent.ids[0]);
  EXPECT_EQ(child.ids[1], parent.ids[1]);
  EXPECT_NE(child.ids[2], parent.ids[2]);
  BlockList another;
  EXPECT_FALSE(pool.Fork(parent, 10, another).has_value());  // no block is left for the copy
  EXPECT_TRUE(another.ids.empty());
  const auto without = pool.Fork(parent, 8, another);  // none is needed
  ASSERT_TRUE(without.has_value());
  EXPECT_EQ(without->to, -1);
  pool.Release(parent);
  pool.Release(child);
  pool.Release(another);
  EXPECT_EQ(pool.num_references(), 0);
  EXPECT_EQ(pool.num_free(), 4);
}

TEST(BlockPool, AForkPublishesItsOwnContinuation) {
  BlockPool pool = Make(10);
  BlockList parent = Compute(pool, "", Ids(6));
  BlockList child;
  ASSERT_TRUE(pool.Fork(parent, 6, child).has_value());
  std::vector<int32_t> ids = Ids(6);
  ids.insert(ids.end(), {1, 2});
  pool.Publish("", ids, 8, child);
  EXPECT_EQ(pool.Peek("", ids).num_tokens, 8);
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 4);
}

TEST(BlockPool, KeepsNoPrefixesWhenToldSo) {
  BlockPool pool = Make(4, /*keep_prefixes=*/false);
  BlockList blocks = Compute(pool, "", Ids(8));
  EXPECT_EQ(pool.Peek("", Ids(8)).num_tokens, 0);
  pool.Release(blocks);
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.num_free(), 4);
}

// Against a plain model: what was published and not overwritten is found, what was not is never found,
// nobody's block is given to another, and nothing leaks.
TEST(BlockPool, HoldsItsInvariantsThroughManyRandomLives) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int limit) { return static_cast<int>(random() % limit); };
    BlockPool pool = Make(24);
    struct Life {
      std::string salt;
      std::vector<int32_t> ids;
      BlockList blocks;
    };
    std::vector<Life> lives;
    std::map<int32_t, std::pair<std::string, std::vector<int32_t>>> contents;  // of each block
    for (int step = 0; step < 400; ++step) {
      if (below(2) == 0 || lives.empty()) {
        Life life;
        life.salt = below(2) == 0 ? "a" : "b";
        for (int i = 0, size = 1 + below(30); i < size; ++i) life.ids.push_back(below(2));
        const int matched = pool.Match(life.salt, life.ids, life.blocks);
        for (int i = 0; i < matched / kBlockTokens; ++i) {
          const std::vector<int32_t> prefix(life.ids.begin(),
                                            life.ids.begin() + (i + 1) * kBlockTokens);
          ASSERT_EQ(contents[life.blocks.ids[i]], std::make_pair(life.salt, prefix)) << seed;
        }
        if (!pool.Reserve(static_cast<int>(life.ids.size()), life.blocks)) {
          pool.Release(life.blocks);
          continue;
        }
        for (size_t i = matched / kBlockTokens; i < life.blocks.ids.size(); ++i) {
          const size_t end = std::min(life.ids.size(), (i + 1) * kBlockTokens);
          contents[life.blocks.ids[i]] = {life.salt, {life.ids.begin(), life.ids.begin() + end}};
        }
        pool.Publish(life.salt, life.ids, static_cast<int>(life.ids.size()), life.blocks);
        lives.push_back(std::move(life));
      } else {
        const int which = below(static_cast<int>(lives.size()));
        pool.Release(lives[which].blocks);
        lives.erase(lives.begin() + which);
      }
      int64_t num_references = 0;
      std::set<int32_t> used;
      for (const Life& life : lives) {
        num_references += static_cast<int64_t>(life.blocks.ids.size());
        used.insert(life.blocks.ids.begin(), life.blocks.ids.end());
      }
      ASSERT_EQ(pool.num_references(), num_references) << seed;
      ASSERT_EQ(pool.num_free() + static_cast<int>(used.size()), 24) << seed;
    }
  }
}

}  // namespace
}  // namespace orrery
