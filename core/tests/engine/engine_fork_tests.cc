// Several continuations of one prompt.
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "sampling/counter_random.h"
#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

constexpr SamplingOptions Warm(uint64_t seed) {
  SamplingOptions sampling;
  sampling.temperature = 1.5F;
  sampling.seed = seed;
  return sampling;
}

TEST(EngineForkTest, EachSequenceEqualsALoneRequestWithItsSeed) {
  for (const int32_t prompt_tokens : {1, 2, 4, 5, 8, 31, 33}) {
    const std::vector<int32_t> prompt = MakePrompt(prompt_tokens, 2);
    EngineBench bench(EngineOptions{.max_step_tokens = 8});
    const Recordings several =
        bench.SubmitSeveral("several", prompt, 9, 5, [](GenerationRequest& request) { request.sampling = Warm(77); });
    bench.RunUntilIdle();
    std::set<std::vector<int32_t>> different;
    for (int32_t i = 0; i < 5; ++i) {
      EngineBench alone;
      const auto expected = alone.Submit(
          "alone", prompt, 9, [&](GenerationRequest& request) { request.sampling = Warm(SequenceSeed(77, i)); });
      alone.RunUntilIdle();
      EXPECT_EQ(several[static_cast<size_t>(i)]->tokens(), expected->tokens()) << prompt_tokens << " " << i;
      different.insert(expected->tokens());
    }
    EXPECT_GT(different.size(), 1U);
  }
}

TEST(EngineForkTest, ThePromptIsComputedOnceAndOnlyTheUnfinishedBlockIsCopied) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(39, 2);  // 38 tokens before the fork: half of the last block.
  const Recordings several = bench.SubmitSeveral("several", prompt, 4, 6);
  bench.RunUntilIdle();
  for (const auto& recording : several) EXPECT_EQ(recording->tokens(), ExpectedGreedy(prompt, 4));
  const int32_t computed = std::accumulate(bench.log.step_tokens.begin(), bench.log.step_tokens.end(), 0);
  EXPECT_EQ(computed, 38 + 6 * 4);
  EXPECT_EQ(bench.log.copied_blocks, 5) << "the last holder keeps the block";
  EXPECT_EQ(bench.observer.finished[FinishReason::kLength], 6);
}

TEST(EngineForkTest, OneSequenceCanBeStoppedAndTheOthersGoOn) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(10, 4);
  const Recordings several = bench.SubmitSeveral("several", prompt, 8, 3);
  while (several[1]->tokens().size() < 2) bench.Step();
  bench.engine.Stop("several", 1);
  bench.engine.Stop("several", 1);
  bench.engine.Stop("several", 7);
  bench.engine.Stop("several", -1);
  bench.Step();
  EXPECT_TRUE(several[1]->is_finished());
  EXPECT_FALSE(several[0]->is_finished());
  bench.RunUntilIdle();
  EXPECT_EQ(several[1]->summary().reason, FinishReason::kCancelled);
  EXPECT_FALSE(several[1]->summary().is_last);
  EXPECT_EQ(several[0]->tokens(), ExpectedGreedy(prompt, 8));
  EXPECT_EQ(several[2]->tokens(), ExpectedGreedy(prompt, 8));
}

TEST(EngineForkTest, AStopBeforeTheForkEndsAllSequences) {
  EngineBench bench(EngineOptions{.max_step_tokens = 4});
  const Recordings several = bench.SubmitSeveral("several", MakePrompt(30, 4), 8, 4);
  bench.Step();
  bench.engine.Stop("several", 2);  // Not there yet: no effect.
  bench.Step();
  EXPECT_FALSE(several[2]->is_finished());
  bench.engine.Stop("several");
  bench.RunUntilIdle();
  for (const auto& recording : several) {
    ASSERT_TRUE(recording->is_finished());
    EXPECT_EQ(recording->summary().reason, FinishReason::kCancelled);
  }
  EXPECT_TRUE(several[3]->summary().is_last);
  EXPECT_FALSE(several[0]->summary().is_last);
}

TEST(EngineForkTest, AFailedStepEndsAllSequencesOfIt) {
  EngineBench bench;
  bench.log.before_run = [](const PackedBatch&) { return Status::ResourceExhausted("no memory"); };
  const Recordings several = bench.SubmitSeveral("several", MakePrompt(30, 4), 8, 4);
  bench.RunUntilIdle();
  for (const auto& recording : several) {
    ASSERT_TRUE(recording->is_finished());
    EXPECT_EQ(recording->summary().error.code(), ErrorCode::kResourceExhausted);
  }
}

TEST(EngineForkTest, SequencesThatAreYetToForkKeepTheirPlaces) {
  EngineBench bench(EngineOptions{.max_step_tokens = 4, .max_active_requests = 4});
  const std::vector<int32_t> prompt = MakePrompt(20, 4);
  const Recordings several = bench.SubmitSeveral("several", prompt, 5, 4);
  const auto next = bench.Submit("next", MakePrompt(5, 5), 2);
  while (bench.Step()) EXPECT_LE(bench.observer.last_load.running, 4);
  for (const auto& recording : several) EXPECT_EQ(recording->tokens(), ExpectedGreedy(prompt, 5));
  EXPECT_TRUE(next->is_finished());
}

TEST(EngineForkTest, MoreSequencesThanCanRunAtOnceAreRefused) {
  EngineBench bench(EngineOptions{.max_active_requests = 4});
  GenerationRequest request = MakeRequest("r", {1}, 2, std::make_shared<Recording>());
  request.num_sequences = 5;
  const Status status = bench.engine.Submit(std::move(request));
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(status.message().find("num_sequences is 5"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace naiad::testing
