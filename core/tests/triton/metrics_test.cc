#include "triton/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fake_triton.h"

namespace naiad {
namespace {

using testing::MetricValue;

constexpr char kModel[] = "{model=chat,version=1}";
const MetricLabels kLabels = {{"model", "chat"}, {"version", "1"}};

class ModelMetricsTest : public ::testing::Test {
 protected:
  void Make(EngineKind kind) {
    ASSERT_TRUE(MetricFamilies::Create(&families_).ok());
    ASSERT_TRUE(ModelMetrics::Create(*families_, kLabels, kind, &metrics_).ok());
  }

  std::unique_ptr<MetricFamilies> families_;
  std::unique_ptr<ModelMetrics> metrics_;
};

TEST_F(ModelMetricsTest, ASequenceThatEndedMovesItsCounterAndHistograms) {
  Make(EngineKind::kDecoder);
  FinishedSummary summary;
  summary.reason = FinishReason::kLength;
  summary.prompt_tokens = 5;
  summary.completion_tokens = 3;
  summary.is_last = false;
  metrics_->OnFinished(summary, std::chrono::microseconds(900));
  summary.is_last = true;
  metrics_->OnFinished(summary, std::chrono::microseconds(950));
  EXPECT_EQ(MetricValue("naiad_request_success_total{model=chat,version=1,finished_reason=length}"), 2.0);
  EXPECT_EQ(MetricValue("naiad_request_success_total{model=chat,version=1,finished_reason=stop}"), 0.0);
  EXPECT_EQ(MetricValue(std::string("naiad_e2e_request_latency_seconds") + kModel), 2.0);
  // Tokens are counted when a step makes them.
  EXPECT_EQ(MetricValue(std::string("naiad_prompt_tokens_total") + kModel), 0.0);
  EXPECT_EQ(MetricValue(std::string("naiad_generation_tokens_total") + kModel), 0.0);
}

TEST_F(ModelMetricsTest, TokensAreCountedStepByStep) {
  Make(EngineKind::kDecoder);
  const StepStats stats{
      .new_tokens = 7, .prompt_tokens = 30, .cached_prompt_tokens = 16, .draft_tokens = 6, .accepted_draft_tokens = 4};
  metrics_->OnStep(stats);
  metrics_->OnStep(stats);
  metrics_->OnPreemption();
  EXPECT_EQ(MetricValue(std::string("naiad_generation_tokens_total") + kModel), 14.0);
  EXPECT_EQ(MetricValue(std::string("naiad_prompt_tokens_total") + kModel), 60.0);
  EXPECT_EQ(MetricValue(std::string("naiad_prefix_cache_hit_tokens_total") + kModel), 32.0);
  EXPECT_EQ(MetricValue(std::string("naiad_spec_decode_num_draft_tokens_total") + kModel), 12.0);
  EXPECT_EQ(MetricValue(std::string("naiad_spec_decode_num_accepted_tokens_total") + kModel), 8.0);
  EXPECT_EQ(MetricValue(std::string("naiad_num_preemptions_total") + kModel), 1.0);
}

TEST_F(ModelMetricsTest, AFailureIsCountedByTheNameOfItsStatusAndNotAsSuccess) {
  Make(EngineKind::kDecoder);
  FinishedSummary summary;
  summary.reason = FinishReason::kError;
  summary.error = Status::Unavailable("shutting down");
  metrics_->OnFinished(summary, std::chrono::microseconds(1));
  metrics_->OnRejected(ErrorCode::kResourceExhausted);
  EXPECT_EQ(MetricValue("naiad_request_failure_total{model=chat,version=1,reason=UNAVAILABLE}"), 1.0);
  EXPECT_EQ(MetricValue("naiad_request_failure_total{model=chat,version=1,reason=RESOURCE_EXHAUSTED}"), 1.0);
  EXPECT_EQ(MetricValue(std::string("naiad_e2e_request_latency_seconds") + kModel), 0.0);
}

TEST_F(ModelMetricsTest, LoadBecomesGauges) {
  Make(EngineKind::kDecoder);
  metrics_->OnLoad({.running = 3, .waiting = 4, .blocks_used = 2, .blocks_free = 5, .blocks_cached = 1});
  EXPECT_EQ(MetricValue(std::string("naiad_num_requests_running") + kModel), 3.0);
  EXPECT_EQ(MetricValue(std::string("naiad_num_requests_waiting") + kModel), 4.0);
  EXPECT_EQ(MetricValue(std::string("naiad_kv_cache_usage_perc") + kModel), 0.25);
  EXPECT_EQ(MetricValue("naiad_kv_cache_blocks{model=chat,version=1,state=cached}"), 1.0);
}

TEST_F(ModelMetricsTest, StepsAndTokensBecomeHistograms) {
  Make(EngineKind::kDecoder);
  metrics_->OnStep({.tokens = 8, .sequences = 2, .duration = std::chrono::microseconds(500)});
  metrics_->OnFirstToken(std::chrono::microseconds(10));
  metrics_->OnInterToken(std::chrono::microseconds(10));
  for (const char* name : {"naiad_step_tokens", "naiad_step_sequences", "naiad_step_duration_seconds",
                           "naiad_time_to_first_token_seconds", "naiad_inter_token_latency_seconds"}) {
    EXPECT_EQ(MetricValue(name + std::string(kModel)), 1.0) << name;
  }
}

TEST_F(ModelMetricsTest, TheEnginesTimeIsCountedByActivity) {
  Make(EngineKind::kDecoder);
  using std::chrono::microseconds;
  metrics_->OnWork({.total = microseconds(2000), .model = microseconds(1250), .sampling = microseconds(250)});
  const auto value = [](const std::string& activity) {
    return MetricValue("naiad_engine_seconds_total{model=chat,version=1,activity=" + activity + "}");
  };
  EXPECT_DOUBLE_EQ(value("model"), 0.00125);
  EXPECT_DOUBLE_EQ(value("sampling"), 0.00025);
  EXPECT_DOUBLE_EQ(value("rest"), 0.0005);
}

TEST_F(ModelMetricsTest, AnEncoderHasNoSeriesOfTokensOrCache) {
  Make(EngineKind::kEncoder);
  metrics_->OnLoad({.running = 1});
  metrics_->OnInterToken(std::chrono::microseconds(10));
  metrics_->OnStep({.tokens = 8, .prompt_tokens = 8});
  EXPECT_EQ(MetricValue(std::string("naiad_prompt_tokens_total") + kModel), 8.0);
  EXPECT_EQ(MetricValue(std::string("naiad_spec_decode_num_draft_tokens_total") + kModel), -1.0);
  EXPECT_EQ(MetricValue(std::string("naiad_inter_token_latency_seconds") + kModel), -1.0);
  EXPECT_EQ(MetricValue(std::string("naiad_kv_cache_usage_perc") + kModel), -1.0);
  EXPECT_EQ(MetricValue(std::string("naiad_num_requests_running") + kModel), 1.0);
}

TEST_F(ModelMetricsTest, EverythingIsDeletedWithItsOwner) {
  const size_t metrics_before = testing::LiveMetrics();
  const size_t families_before = testing::LiveMetricFamilies();
  Make(EngineKind::kDecoder);
  EXPECT_EQ(testing::LiveMetricFamilies(), families_before + kMetricCount);
  EXPECT_GT(testing::LiveMetrics(), metrics_before);
  metrics_.reset();
  families_.reset();
  EXPECT_EQ(testing::LiveMetrics(), metrics_before);
  EXPECT_EQ(testing::LiveMetricFamilies(), families_before);
}

TEST(MetricNames, BucketsStartAtHalfAMillisecondAndAscend) {
  EXPECT_EQ(kSecondsBuckets.front(), 0.0005);
  EXPECT_TRUE(std::is_sorted(kSecondsBuckets.begin(), kSecondsBuckets.end()));
  EXPECT_TRUE(std::is_sorted(kCountBuckets.begin(), kCountBuckets.end()));
}

}  // namespace
}  // namespace naiad
