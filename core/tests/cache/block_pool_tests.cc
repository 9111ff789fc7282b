#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "cache/block_pool.h"

namespace naiad {
namespace {

constexpr int32_t kBlockTokens = 4;

TEST(BlockPoolTest, PositionsTakeWholeBlocks) {
  EXPECT_EQ(BlocksForPositions(0, 16), 0);
  EXPECT_EQ(BlocksForPositions(1, 16), 1);
  EXPECT_EQ(BlocksForPositions(16, 16), 1);
  EXPECT_EQ(BlocksForPositions(17, 16), 2);
  EXPECT_EQ(BlocksForPositions(INT32_MAX, 16), 134'217'728);
}

TEST(BlockPoolTest, GivesEachBlockOnceAndNoneBeyondItsSize) {
  BlockPool pool(5, kBlockTokens);
  const auto first = pool.Reserve(3);
  const auto second = pool.Reserve(2);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(pool.free_count(), 0);
  EXPECT_FALSE(pool.Reserve(1).has_value());
  std::vector<int32_t> all(first->blocks().begin(), first->blocks().end());
  all.insert(all.end(), second->blocks().begin(), second->blocks().end());
  std::ranges::sort(all);
  EXPECT_EQ(all, (std::vector<int32_t>{0, 1, 2, 3, 4}));
}

TEST(BlockPoolTest, TakesAllOrNothing) {
  BlockPool pool(5, kBlockTokens);
  EXPECT_FALSE(pool.Reserve(6).has_value());
  EXPECT_FALSE(pool.Reserve(-1).has_value());
  EXPECT_EQ(pool.free_count(), 5);
  ASSERT_TRUE(pool.Reserve(0).has_value());
  EXPECT_EQ(pool.free_count(), 5);
}

TEST(BlockReservationTest, GivesItsBlocksBackWhenDestroyedOrOverwritten) {
  BlockPool pool(5, kBlockTokens);
  {
    const auto reservation = pool.Reserve(3);
    EXPECT_EQ(pool.used_count(), 3);
  }
  EXPECT_EQ(pool.used_count(), 0);
  BlockReservation reservation = *pool.Reserve(3);
  reservation = *pool.Reserve(1);
  EXPECT_EQ(pool.used_count(), 1);
}

TEST(BlockReservationTest, MovesItsBlocksWithoutGivingThemBack) {
  BlockPool pool(5, kBlockTokens);
  BlockReservation first = *pool.Reserve(3);
  const BlockReservation second = std::move(first);
  EXPECT_EQ(second.blocks().size(), 3U);
  EXPECT_EQ(pool.used_count(), 3);
}

TEST(BlockTableTest, KeepsBlocksInOrderAndGivesThemBackOnce) {
  BlockPool pool(6, kBlockTokens);
  {
    BlockTable table;
    BlockReservation first = *pool.Reserve(2);
    BlockReservation second = *pool.Reserve(3);
    std::vector<int32_t> expected(first.blocks().begin(), first.blocks().end());
    expected.insert(expected.end(), second.blocks().begin(), second.blocks().end());
    table.Append(std::move(first));
    table.Append(*pool.Reserve(0));
    table.Append(std::move(second));
    EXPECT_TRUE(std::ranges::equal(table.blocks(), expected));
    EXPECT_EQ(pool.used_count(), 5);
    table.Clear();
    EXPECT_EQ(table.size(), 0);
    EXPECT_EQ(pool.used_count(), 0);
    table.Append(*pool.Reserve(4));
  }
  EXPECT_EQ(pool.free_count(), 6);
}

TEST(BlockTableTest, ReplacesOneBlockAndLetsGoOfTheOldOne) {
  BlockPool pool(3, kBlockTokens);
  BlockTable table;
  table.Append(*pool.Reserve(2));
  const int32_t old = table.blocks()[1];
  table.Replace(1, *pool.Reserve(1));
  EXPECT_NE(table.blocks()[1], old);
  EXPECT_EQ(pool.holders(old), 0);
  EXPECT_EQ(pool.used_count(), 2);
}

TEST(BlockReservationTest, SplitsOffItsFront) {
  BlockPool pool(5, kBlockTokens);
  BlockReservation all = *pool.Reserve(3);
  const int32_t first = all.blocks()[0];
  {
    const BlockReservation front = all.TakeFront(1);
    ASSERT_EQ(front.blocks().size(), 1U);
    EXPECT_EQ(front.blocks()[0], first);
    EXPECT_EQ(pool.used_count(), 3);
  }
  EXPECT_EQ(pool.used_count(), 2);
  EXPECT_EQ(all.TakeFront(9).blocks().size(), 2U);
}

// A sequence of `count` full blocks that are in the index.
BlockReservation RememberedBlocks(BlockPool& pool, const std::vector<std::vector<int32_t>>& tokens) {
  BlockReservation blocks = *pool.Reserve(static_cast<int32_t>(tokens.size()));
  int32_t previous = PrefixIndex::kNoBlock;
  for (size_t i = 0; i < tokens.size(); ++i) {
    pool.Remember(blocks.blocks()[i], previous, tokens[i]);
    previous = blocks.blocks()[i];
  }
  return blocks;
}

TEST(BlockPoolTest, SharedBlocksAreUsedUntilTheLastHolderLetsGo) {
  BlockPool pool(4, kBlockTokens);
  BlockReservation first = *pool.Reserve(2);
  {
    const BlockReservation second = pool.Share(first.blocks());
    EXPECT_EQ(pool.holders(second.blocks()[0]), 2);
    first = {};
    EXPECT_EQ(pool.used_count(), 2);
  }
  EXPECT_EQ(pool.free_count(), 4);
}

TEST(BlockPoolTest, KnownBlocksStayWhenLetGoAndAreFoundByTheirWholeHistory) {
  BlockPool pool(4, kBlockTokens);
  BlockReservation held = RememberedBlocks(pool, {{1, 2, 3, 4}, {5, 6, 7, 8}});
  const std::vector<int32_t> blocks(held.blocks().begin(), held.blocks().end());
  held = {};
  EXPECT_EQ(pool.cached_count(), 2);
  EXPECT_EQ(pool.available_count(), 4);
  const std::vector<int32_t> first = {1, 2, 3, 4};
  const std::vector<int32_t> second = {5, 6, 7, 8};
  EXPECT_EQ(pool.FindCached(PrefixIndex::kNoBlock, first), blocks[0]);
  EXPECT_EQ(pool.FindCached(blocks[0], second), blocks[1]);
  EXPECT_EQ(pool.FindCached(PrefixIndex::kNoBlock, second), std::nullopt);
  held = pool.Share(blocks);
  EXPECT_EQ(pool.cached_count(), 0);
  EXPECT_EQ(pool.used_count(), 2);
}

TEST(BlockPoolTest, TakesFreeBlocksFirstThenTheCachedOneLetGoOfLongestAgoTailFirst) {
  BlockPool pool(5, kBlockTokens);
  BlockReservation older = RememberedBlocks(pool, {{1, 1, 1, 1}, {2, 2, 2, 2}});
  BlockReservation newer = RememberedBlocks(pool, {{3, 3, 3, 3}});
  const std::vector<int32_t> old_blocks(older.blocks().begin(), older.blocks().end());
  const int32_t new_block = newer.blocks()[0];
  older = {};
  newer = {};
  EXPECT_EQ(pool.cached_blocks(), (std::vector<int32_t>{old_blocks[1], old_blocks[0], new_block}));
  const BlockReservation free_ones = *pool.Reserve(2);
  EXPECT_EQ(pool.cached_count(), 3);
  const BlockReservation taken = *pool.Reserve(2);
  EXPECT_TRUE(std::ranges::equal(taken.blocks(), std::vector<int32_t>{old_blocks[1], old_blocks[0]}));
  EXPECT_EQ(pool.FindCached(PrefixIndex::kNoBlock, std::vector<int32_t>{1, 1, 1, 1}), std::nullopt);
  EXPECT_EQ(pool.FindCached(PrefixIndex::kNoBlock, std::vector<int32_t>{3, 3, 3, 3}), new_block);
  EXPECT_FALSE(pool.Reserve(2).has_value());
}

}  // namespace
}  // namespace naiad
