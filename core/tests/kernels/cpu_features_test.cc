#include "kernels/cpu_features.h"

#include <gtest/gtest.h>

namespace naiad {
namespace {

TEST(CpuFeaturesTest, ScalarCanAlwaysBeAskedFor) {
  SimdLevel level = SimdLevel::kAvx2;
  EXPECT_TRUE(ChooseSimdLevel("scalar", &level).ok());
  EXPECT_EQ(level, SimdLevel::kScalar);
}

TEST(CpuFeaturesTest, NoWishGivesTheBestLevelWhichCanAlsoBeNamed) {
  SimdLevel best = SimdLevel::kScalar;
  SimdLevel best_of_empty = SimdLevel::kScalar;
  EXPECT_TRUE(ChooseSimdLevel(nullptr, &best).ok());
  EXPECT_TRUE(ChooseSimdLevel("", &best_of_empty).ok());
  EXPECT_EQ(best, best_of_empty);
  SimdLevel named = SimdLevel::kScalar;
  EXPECT_EQ(ChooseSimdLevel("avx2", &named).ok(), best >= SimdLevel::kAvx2);
  EXPECT_EQ(ChooseSimdLevel("avx512", &named).ok(), best >= SimdLevel::kAvx512);
  EXPECT_EQ(ChooseSimdLevel("amx", &named).ok(), best >= SimdLevel::kAmx);
  EXPECT_EQ(named, best);
}

TEST(CpuFeaturesTest, EachLevelHasTheNameByWhichItIsChosen) {
  for (const SimdLevel level : {SimdLevel::kScalar, SimdLevel::kAvx2, SimdLevel::kAvx512, SimdLevel::kAmx}) {
    SimdLevel chosen = SimdLevel::kScalar;
    if (ChooseSimdLevel(SimdLevelName(level), &chosen).ok()) {
      EXPECT_EQ(chosen, level);
    }
  }
}

TEST(CpuFeaturesTest, UnknownLevelIsRefusedByName) {
  SimdLevel level = SimdLevel::kScalar;
  const Status status = ChooseSimdLevel("mmx", &level);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "NAIAD_SIMD_LEVEL is 'mmx'; it must be 'auto', 'scalar', 'avx2', 'avx512' or 'amx'");
}

}  // namespace
}  // namespace naiad
