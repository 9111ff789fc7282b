#include <gtest/gtest.h>

#include "cache/cache_invariants.h"

namespace naiad {
namespace {

using Violations = std::vector<std::string>;

CacheSnapshot GoodSnapshot() {
  return {.num_blocks = 5, .block_tokens = 4, .free_blocks = {4, 1}, .sequences = {{"a", 6, {0, 3}}, {"b", 4, {2}}}};
}

TEST(CacheInvariantsTest, FindsNothingInAGoodSnapshot) {
  EXPECT_EQ(FindCacheViolations(GoodSnapshot()), Violations{});
  EXPECT_EQ(FindCacheViolations({}), Violations{});
}

TEST(CacheInvariantsTest, FindsALeakedBlock) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.free_blocks = {4};
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 1 is neither free nor owned"});
}

TEST(CacheInvariantsTest, FindsABlockHeldTwice) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.sequences[1].blocks = {3};
  snapshot.free_blocks.push_back(2);
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 3 is held by sequence a and by sequence b"});
}

TEST(CacheInvariantsTest, FindsABlockThatIsFreeAndOwned) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.free_blocks.push_back(0);
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"block 0 is held by the free list and by sequence a"});
}

TEST(CacheInvariantsTest, FindsABlockThatIsNotInThePool) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.free_blocks.push_back(5);
  EXPECT_EQ(FindCacheViolations(snapshot), Violations{"the free list holds block 5, which is not in the pool"});
}

TEST(CacheInvariantsTest, FindsASequenceWithTooFewOrTooManyBlocks) {
  CacheSnapshot snapshot = GoodSnapshot();
  snapshot.sequences[0].cached_positions = 9;
  snapshot.sequences[1].cached_positions = 0;
  EXPECT_EQ(FindCacheViolations(snapshot), (Violations{"sequence a has 2 blocks; its 9 cached positions take 3",
                                                       "sequence b has 1 blocks; its 0 cached positions take 0"}));
}

}  // namespace
}  // namespace naiad
