#include "triton/response_stream.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fake_triton.h"

namespace naiad {
namespace {

using testing::ReceivedResponse;

const Clock::time_point kArrival{std::chrono::microseconds(100)};

FinishedSummary Summary(int32_t sequence, bool is_last, std::chrono::microseconds queue) {
  FinishedSummary summary;
  summary.sequence_index = sequence;
  summary.is_last = is_last;
  summary.queue = queue;
  return summary;
}

int64_t SequenceOf(const ReceivedResponse& response) {
  return std::get<int64_t>(response.parameters.at("sequence_index"));
}

class ResponseStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto [request, log] = testing::NewRequest({});
    log_ = log;
    stream_ = std::make_unique<ResponseStream>(std::make_unique<LiveRequest>(nullptr, request), kArrival);
  }

  std::vector<ReceivedResponse> End() {
    stream_.reset();
    return log_->WaitForRelease();
  }

  std::shared_ptr<testing::RequestLog> log_;
  std::unique_ptr<ResponseStream> stream_;
};

TEST_F(ResponseStreamTest, OnlyTheEndOfTheLastSequenceIsFinal) {
  TokenDelta delta;
  delta.sequence_index = 1;
  delta.token_ids = {7};
  stream_->OnDelta(delta);
  stream_->OnFinished({}, Summary(2, false, std::chrono::microseconds(20)));
  stream_->OnFinished({}, Summary(0, false, std::chrono::microseconds(10)));
  stream_->OnFinished(delta, Summary(1, true, std::chrono::microseconds(30)));
  const auto responses = End();
  ASSERT_EQ(responses.size(), 4U);
  const std::vector<int64_t> sequences = {1, 2, 0, 1};
  for (size_t index = 0; index < responses.size(); ++index) {
    EXPECT_EQ(SequenceOf(responses[index]), sequences[index]);
    EXPECT_EQ(responses[index].is_final, index == 3);
    EXPECT_EQ(responses[index].parameters.contains("finish_reason"), index > 0);
  }
  EXPECT_EQ(testing::Int32s(responses[3].tensors.at("output_ids")), std::vector<int32_t>{7});
}

TEST_F(ResponseStreamTest, TritonCountsTheRequestOnceFromItsFirstWork) {
  stream_->OnFinished({}, Summary(1, false, std::chrono::microseconds(20)));
  stream_->OnFinished({}, Summary(0, true, std::chrono::microseconds(50)));
  End();
  ASSERT_EQ(log_->statistics().size(), 1U);
  EXPECT_TRUE(log_->statistics()[0].success);
  EXPECT_EQ(log_->statistics()[0].exec_start_ns, 120'000U);
}

TEST_F(ResponseStreamTest, ASequenceThatFailsMakesTheRequestAFailure) {
  FinishedSummary failed = Summary(0, false, std::chrono::microseconds(0));
  failed.reason = FinishReason::kError;
  failed.error = Status::Internal("out of luck");
  stream_->OnFinished({}, failed);
  stream_->OnFinished({}, Summary(1, true, std::chrono::microseconds(0)));
  End();
  ASSERT_EQ(log_->statistics().size(), 1U);
  EXPECT_FALSE(log_->statistics()[0].success);
}

TEST_F(ResponseStreamTest, KnowsThatItsClientIsGone) {
  EXPECT_FALSE(stream_->IsAbandoned());
  log_->Cancel();
  EXPECT_TRUE(stream_->IsAbandoned());
  stream_->OnFinished({}, Summary(0, true, std::chrono::microseconds(0)));
  End();
}

}  // namespace
}  // namespace naiad
