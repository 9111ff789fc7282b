#include <gtest/gtest.h>

#include <cmath>

#include "sampling/log_probs.h"

namespace naiad {
namespace {

TEST(LogProbsTest, AreLogSoftmaxOfTheRow) {
  const std::vector<float> logits = {1.0F, 3.0F, 2.0F, 3.0F};
  const double normalizer = std::log(std::exp(1.0) + std::exp(3.0) + std::exp(2.0) + std::exp(3.0));
  LogProbs log_probs;
  std::vector<Candidate> scratch;
  AppendLogProbs(logits, 2, 3, &scratch, &log_probs);
  AppendLogProbs(logits, 0, 3, &scratch, &log_probs);
  ASSERT_EQ(log_probs.chosen.size(), 2U);
  EXPECT_NEAR(log_probs.chosen[0], 2.0 - normalizer, 1e-6);
  EXPECT_NEAR(log_probs.chosen[1], 1.0 - normalizer, 1e-6);
  EXPECT_EQ(log_probs.top_count, 3);
  EXPECT_EQ(log_probs.top_ids, (std::vector<int32_t>{1, 3, 2, 1, 3, 2}));
  ASSERT_EQ(log_probs.top_values.size(), 6U);
  EXPECT_NEAR(log_probs.top_values[0], 3.0 - normalizer, 1e-6);
  EXPECT_NEAR(log_probs.top_values[2], 2.0 - normalizer, 1e-6);
}

TEST(LogProbsTest, WithoutAlternativesHoldTheChosenOnly) {
  LogProbs log_probs;
  std::vector<Candidate> scratch;
  AppendLogProbs(std::vector{0.0F, 0.0F}, 1, 0, &scratch, &log_probs);
  EXPECT_NEAR(log_probs.chosen.at(0), -std::log(2.0), 1e-6);
  EXPECT_TRUE(log_probs.top_ids.empty());
  EXPECT_TRUE(log_probs.top_values.empty());
}

TEST(LogProbsTest, DoNotOverflowWithLargeLogits) {
  EXPECT_NEAR(LogSumExp(std::vector{1e4F, 1e4F}), 1e4 + std::log(2.0), 1e-2);
  EXPECT_NEAR(LogSumExp(std::vector{-1e4F, -1e4F}), -1e4 + std::log(2.0), 1e-2);
}

TEST(LogProbsTest, OfALongFlatRowKeepTheirPrecision) {
  EXPECT_NEAR(LogSumExp(std::vector<float>(200'000, 1.5F)), 1.5 + std::log(200'000.0), 1e-6);
}

}  // namespace
}  // namespace naiad
