#include "encoder/pooling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace naiad {
namespace {

using ::testing::ElementsAre;

constexpr std::array<float, 6> kHidden = {1, -5, 2, -4, 6, -9};  // Three tokens, width 2.

std::array<float, 2> Pooled(Pooling pooling, std::span<const float> hidden) {
  std::array<float, 2> pooled = {99, 99};
  PoolHiddenStates(pooling, hidden, pooled);
  return pooled;
}

TEST(PoolingTest, MeanIsOverTheTokens) { EXPECT_THAT(Pooled(Pooling::kMean, kHidden), ElementsAre(3, -6)); }

TEST(PoolingTest, ClsIsTheFirstToken) { EXPECT_THAT(Pooled(Pooling::kCls, kHidden), ElementsAre(1, -5)); }

TEST(PoolingTest, MaxIsTakenOfEachElement) { EXPECT_THAT(Pooled(Pooling::kMax, kHidden), ElementsAre(6, -4)); }

TEST(PoolingTest, OneTokenIsItsOwnPool) {
  for (const Pooling pooling : {Pooling::kMean, Pooling::kCls, Pooling::kMax}) {
    EXPECT_THAT(Pooled(pooling, std::span(kHidden).first(2)), ElementsAre(1, -5));
  }
}

}  // namespace
}  // namespace naiad
