#include <gtest/gtest.h>

#include "cache/cache_invariants.h"
#include "cache/prefix_index.h"

namespace naiad {
namespace {

using Violations = std::vector<std::string>;

// a holds 0, 3; b holds 0, 2; 5 follows 0 and is cached.
CacheSnapshot GoodSnapshot() {
  return {.num_blocks = 6,
          .block_tokens = 4,
          .holders = {2, 0, 1, 1, 0, 0},
          .free_blocks = {4, 1},
          .cached_blocks = {5},
          .remembered = {{0, PrefixIndex::kNoBlock}, {5, 0}},
          .sequences = {{"a", 6, {0, 3}}, {"b", 8, {0, 2}}}};
}

TEST(CacheInvariantsTest, FindsNothingInAGoodSnapshot) {
  EXPECT_EQ(FindCacheViolations(GoodSnapshot()), Violations{});
  EXPECT_EQ(FindCacheViolations({}), Violations{});
}

TEST(CacheInvariantsTest, FindsALeakedBlock) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.free_blocks = {4};
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 1 is 0 times free, 0 times cached and in 0 tables"});
}

TEST(CacheInvariantsTest, FindsABlockThatIsFreeAndHeld) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.free_blocks.push_back(3);
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 3 is 1 times free, 0 times cached and in 1 tables"});
}

TEST(CacheInvariantsTest, FindsABlockThatIsFreeTwice) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.free_blocks.push_back(1);
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 1 is 2 times free, 0 times cached and in 0 tables"});
}

TEST(CacheInvariantsTest, FindsAWrongNumberOfHolders) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.holders[0] = 1;
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 0 has 1 holders, but is in 2 tables"});
}

TEST(CacheInvariantsTest, FindsABlockTwiceInOneTable) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.sequences[0].blocks = {3, 3};
  snapshot.holders[0] = 1;
  snapshot.holders[3] = 2;
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"sequence a has a block twice"});
}

TEST(CacheInvariantsTest, FindsABlockThatIsNotInThePool) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.free_blocks.push_back(6);
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"the free list holds block 6, which is not in the pool"});
}

TEST(CacheInvariantsTest, FindsASequenceWithTooFewOrTooManyBlocks) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.sequences[0].cached_positions = 9;
  snapshot.sequences[1].cached_positions = 0;
  EXPECT_EQ(FindCacheViolations(snapshot), (Violations{"sequence a has 2 blocks; its 9 cached positions take 3",
                                                       "sequence b has 2 blocks; its 0 cached positions take 0"}));
}

TEST(CacheInvariantsTest, FindsACachedBlockThatCannotBeFound) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.remembered.pop_back();
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 5 is cached, but not remembered"});
}

TEST(CacheInvariantsTest, FindsAFreeBlockThatCanStillBeFound) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.remembered.push_back({4, PrefixIndex::kNoBlock});
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 4 is free, but remembered"});
}

TEST(CacheInvariantsTest, FindsARememberedBlockWhoseHistoryIsForgottenOrWillBeFirst) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.remembered = {{5, 3}};
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 5 follows block 3, which is not remembered"});
  snapshot = GoodSnapshot();
  snapshot.free_blocks = {4};
  snapshot.cached_blocks = {1, 5};
  snapshot.remembered = {{1, PrefixIndex::kNoBlock}, {5, 1}};
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 5 follows block 1, which is taken first"});
}

}  // namespace
}  // namespace naiad
