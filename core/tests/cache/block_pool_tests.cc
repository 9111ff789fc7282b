#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "cache/block_pool.h"

namespace naiad {
namespace {

TEST(BlockPoolTest, PositionsTakeWholeBlocks) {
  EXPECT_EQ(BlocksForPositions(0, 16), 0);
  EXPECT_EQ(BlocksForPositions(1, 16), 1);
  EXPECT_EQ(BlocksForPositions(16, 16), 1);
  EXPECT_EQ(BlocksForPositions(17, 16), 2);
  EXPECT_EQ(BlocksForPositions(INT32_MAX, 16), 134'217'728);
}

TEST(BlockPoolTest, GivesEachBlockOnceAndNoneBeyondItsSize) {
  BlockPool pool(5);
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
  BlockPool pool(5);
  EXPECT_FALSE(pool.Reserve(6).has_value());
  EXPECT_FALSE(pool.Reserve(-1).has_value());
  EXPECT_EQ(pool.free_count(), 5);
  ASSERT_TRUE(pool.Reserve(0).has_value());
  EXPECT_EQ(pool.free_count(), 5);
}

TEST(BlockReservationTest, GivesItsBlocksBackWhenDestroyedOrOverwritten) {
  BlockPool pool(5);
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
  BlockPool pool(5);
  BlockReservation first = *pool.Reserve(3);
  const BlockReservation second = std::move(first);
  EXPECT_EQ(second.blocks().size(), 3U);
  EXPECT_EQ(pool.used_count(), 3);
}

TEST(BlockTableTest, KeepsBlocksInOrderAndGivesThemBackOnce) {
  BlockPool pool(6);
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

}  // namespace
}  // namespace naiad
