#include "triton/live_request.h"

#include <gtest/gtest.h>

#include "fake_triton.h"

namespace naiad {
namespace {

using testing::NewRequest;

TEST(LiveRequest, ARequestThatNothingEndsIsAnsweredAndReleased) {
  auto [request, log] = NewRequest({});
  {
    const LiveRequest live(nullptr, request);
  }
  const auto responses = log->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_TRUE(responses[0].is_final);
  EXPECT_EQ(responses[0].error, "[INTERNAL] the request was dropped");
  ASSERT_EQ(log->statistics().size(), 1U);
  EXPECT_FALSE(log->statistics()[0].success);
  EXPECT_EQ(log->factories, 0);
}

TEST(LiveRequest, ReportsSuccessWithItsTimes) {
  auto [request, log] = NewRequest({});
  const Clock::time_point start{std::chrono::nanoseconds(100)};
  const Clock::time_point end{std::chrono::nanoseconds(250)};
  {
    LiveRequest live(nullptr, request);
    live.Finish({}, {.success = true, .start = start, .end = end});
  }
  EXPECT_EQ(log->WaitForRelease().size(), 1U);
  const auto statistics = log->statistics();
  ASSERT_EQ(statistics.size(), 1U);
  EXPECT_TRUE(statistics[0].success);
  EXPECT_EQ(statistics[0].exec_start_ns, 100U);
  EXPECT_EQ(statistics[0].compute_start_ns, 100U);
  EXPECT_EQ(statistics[0].compute_end_ns, 250U);
  EXPECT_EQ(statistics[0].exec_end_ns, 250U);
}

TEST(LiveRequest, AResponseThatCannotBeFilledBecomesAnError) {
  auto [request, log] = NewRequest({});
  const std::vector<int32_t> values = {1};
  testing::FailOutputBuffers(true);
  {
    LiveRequest live(nullptr, request);
    ResponseContents response;
    response.tensors.push_back(Int32Tensor("output_ids", values, {1}));
    live.Finish(response, {});
  }
  testing::FailOutputBuffers(false);
  const auto responses = log->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_TRUE(responses[0].is_final);
  EXPECT_EQ(responses[0].error, "[INTERNAL] the response could not be sent");
}

TEST(LiveRequest, TellsWhenTheClientIsGone) {
  auto [request, log] = NewRequest({});
  LiveRequest live(nullptr, request);
  EXPECT_FALSE(live.IsCancelled());
  log->Cancel();
  EXPECT_TRUE(live.IsCancelled());
}

TEST(LiveRequest, AnUncountedAnswerReportsNoStatistics) {
  auto [request, log] = NewRequest({});
  {
    LiveRequest live(nullptr, request);
    live.FinishUncounted({});
  }
  EXPECT_EQ(log->WaitForRelease().size(), 1U);
  EXPECT_TRUE(log->statistics().empty());
}

}  // namespace
}  // namespace naiad
