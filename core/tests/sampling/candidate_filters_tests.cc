#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "sampling/candidate_filters.h"

namespace naiad {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<Candidate> FromProbabilities(const std::vector<float>& probabilities) {
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    candidates.push_back({static_cast<int32_t>(i), std::log(probabilities[i]) + 3.0F});
  }
  return candidates;
}

std::vector<int32_t> SortedIds(const std::vector<Candidate>& candidates) {
  std::vector<int32_t> ids;
  for (const Candidate& candidate : candidates) ids.push_back(candidate.token_id);
  std::ranges::sort(ids);
  return ids;
}

std::vector<int32_t> KeptBy(const CandidateFilter& filter, const std::vector<float>& probabilities) {
  std::vector<Candidate> candidates = FromProbabilities(probabilities);
  filter.Apply(&candidates);
  return SortedIds(candidates);
}

using Ids = std::vector<int32_t>;

TEST(CandidatesTest, CollectsWhatCanBeDrawn) {
  std::vector<Candidate> candidates;
  CollectCandidates(std::vector{1.0F, -kInfinity, kNan, 2.0F}, &candidates);
  EXPECT_EQ(SortedIds(candidates), (Ids{0, 3}));
}

TEST(CandidatesTest, CollectsTheMostLikelyInOrderAndTheLowerIdOnTies) {
  const std::vector<float> logits = {1.0F, 5.0F, -kInfinity, 5.0F, kNan, 3.0F, 5.0F};
  struct Case {
    int32_t count;
    Ids ids;
  };
  for (const Case& item :
       {Case{0, {}}, Case{1, {1}}, Case{2, {1, 3}}, Case{4, {1, 3, 6, 5}}, Case{9, {1, 3, 6, 5, 0}}}) {
    std::vector<Candidate> candidates;
    CollectTopCandidates(logits, item.count, &candidates);
    Ids ids;
    for (const Candidate& candidate : candidates) ids.push_back(candidate.token_id);
    EXPECT_EQ(ids, item.ids) << item.count;
  }
}

TEST(TopPFilterTest, KeepsTheSmallestSetThatReachesTheShare) {
  const std::vector<float> probabilities = {0.1F, 0.4F, 0.2F, 0.3F};
  EXPECT_EQ(KeptBy(TopPFilter(0.01F), probabilities), (Ids{1}));
  EXPECT_EQ(KeptBy(TopPFilter(0.39F), probabilities), (Ids{1}));
  EXPECT_EQ(KeptBy(TopPFilter(0.41F), probabilities), (Ids{1, 3}));
  EXPECT_EQ(KeptBy(TopPFilter(0.69F), probabilities), (Ids{1, 3}));
  EXPECT_EQ(KeptBy(TopPFilter(0.71F), probabilities), (Ids{1, 2, 3}));
  EXPECT_EQ(KeptBy(TopPFilter(0.95F), probabilities), (Ids{0, 1, 2, 3}));
}

// What the filter promises, by sorting everything.
Ids KeptBySorting(std::vector<Candidate> candidates, float top_p) {
  std::ranges::sort(candidates, IsMoreLikely);
  const float max = candidates.front().logit;
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += std::exp(static_cast<double>(candidate.logit - max));
  std::vector<Candidate> kept;
  double reached = 0.0;
  for (const Candidate& candidate : candidates) {
    kept.push_back(candidate);
    reached += std::exp(static_cast<double>(candidate.logit - max));
    if (reached >= static_cast<double>(top_p) * total) break;
  }
  return SortedIds(kept);
}

TEST(TopPFilterTest, KeepsTheSameAsSortingAllDoesForNarrowAndWideDistributions) {
  std::mt19937 random(3);
  for (const float spread : {0.0F, 0.01F, 1.0F, 5.0F, 40.0F, 1e6F}) {
    for (const float top_p : {1e-6F, 0.1F, 0.5F, 0.9F, 0.99F}) {
      std::normal_distribution<float> normal(0.0F, std::max(spread, 1e-30F));
      std::vector<Candidate> candidates;
      for (int32_t id = 0; id < 1000; ++id) candidates.push_back({id, normal(random)});
      // Float weights and double ones may disagree about the last one kept.
      const auto wanted = static_cast<double>(KeptBySorting(candidates, top_p).size());
      std::vector<Candidate> filtered = candidates;
      TopPFilter(top_p).Apply(&filtered);
      ASSERT_NEAR(static_cast<double>(filtered.size()), wanted, 1.0) << spread << " " << top_p;
      std::ranges::sort(candidates, IsMoreLikely);
      candidates.resize(filtered.size());
      EXPECT_EQ(SortedIds(filtered), SortedIds(candidates)) << "exactly the most likely: " << spread << " " << top_p;
    }
  }
}

TEST(MinPFilterTest, KeepsWhatIsLikelyBesideTheMostLikely) {
  const std::vector<float> probabilities = {0.1F, 0.4F, 0.2F, 0.3F};
  EXPECT_EQ(KeptBy(MinPFilter(0.2F), probabilities), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(KeptBy(MinPFilter(0.4F), probabilities), (Ids{1, 2, 3}));
  EXPECT_EQ(KeptBy(MinPFilter(0.7F), probabilities), (Ids{1, 3}));
  EXPECT_EQ(KeptBy(MinPFilter(1.0F), probabilities), (Ids{1}));
}

TEST(TemperatureFilterTest, ScalesDistancesFromTheLargest) {
  std::vector<Candidate> candidates = {{0, 1.0F}, {1, 5.0F}, {2, 3.0F}};
  TemperatureFilter(2.0F).Apply(&candidates);
  EXPECT_FLOAT_EQ(candidates[0].logit, -2.0F);
  EXPECT_FLOAT_EQ(candidates[1].logit, 0.0F);
  EXPECT_FLOAT_EQ(candidates[2].logit, -1.0F);
}

TEST(TemperatureFilterTest, TheSmallestTemperatureLeavesTheMostLikely) {
  std::vector<Candidate> candidates = {{0, 1.0F}, {1, 5.0F}, {2, 4.0F}};
  TemperatureFilter(std::numeric_limits<float>::denorm_min()).Apply(&candidates);
  for (const double point : {0.0, 0.5, 0.999999}) {
    EXPECT_EQ(DrawCandidate(candidates, point), 1);
  }
}

int32_t Draw(const std::vector<Candidate>& candidates, double point) { return DrawCandidate(candidates, point); }

TEST(DrawTest, CutsTheUnitIntervalByProbability) {
  const std::vector<Candidate> candidates = FromProbabilities({0.1F, 0.4F, 0.2F, 0.3F});
  EXPECT_EQ(Draw(candidates, 0.0), 0);
  EXPECT_EQ(Draw(candidates, 0.099), 0);
  EXPECT_EQ(Draw(candidates, 0.101), 1);
  EXPECT_EQ(Draw(candidates, 0.499), 1);
  EXPECT_EQ(Draw(candidates, 0.501), 2);
  EXPECT_EQ(Draw(candidates, 0.701), 3);
  EXPECT_EQ(Draw(candidates, 1.0 - 0x1.0p-53), 3);
}

TEST(DrawTest, GivesWhatOneSumOverAllGives) {
  std::mt19937 random(5);
  for (const int32_t count : {1, 2, 63, 64, 65, 1000}) {
    std::normal_distribution<float> normal(0.0F, 6.0F);
    std::vector<Candidate> candidates;
    for (int32_t id = 0; id < count; ++id) candidates.push_back({id, normal(random)});
    double total = 0.0;
    for (const Candidate& candidate : candidates) total += std::exp(static_cast<double>(candidate.logit));
    double below = 0.0;
    for (const Candidate& candidate : candidates) {
      const double share = std::exp(static_cast<double>(candidate.logit)) / total;
      // In the middle of its part; parts too narrow for float weights are left out.
      if (share > 1e-5) {
        EXPECT_EQ(DrawCandidate(candidates, below + share / 2), candidate.token_id) << count;
      }
      below += share;
    }
  }
}

TEST(DrawTest, NeverGivesACandidateWithoutWeight) {
  const std::vector<Candidate> candidates = {{0, -1000.0F}, {1, 0.0F}, {2, -1000.0F}};
  EXPECT_EQ(Draw(candidates, 0.0), 1);
  EXPECT_EQ(Draw(candidates, 1.0 - 0x1.0p-53), 1);
}

}  // namespace
}  // namespace naiad
