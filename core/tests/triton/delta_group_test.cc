#include "triton/delta_group.h"

#include <gtest/gtest.h>

#include "fake_triton.h"
#include "triton/response_stream.h"

namespace naiad {
namespace {

using testing::Int32s;
using testing::ReceivedResponse;

TokenDelta Delta(int32_t sequence, std::vector<int32_t> token_ids) {
  TokenDelta delta;
  delta.sequence_index = sequence;
  delta.token_ids = std::move(token_ids);
  return delta;
}

FinishedSummary Summary(bool is_last) {
  FinishedSummary summary;
  summary.is_last = is_last;
  return summary;
}

struct Member {
  std::shared_ptr<testing::RequestLog> log;
  std::unique_ptr<ResponseStream> stream;
};

class DeltaGroupTest : public ::testing::Test {
 protected:
  void TearDown() override { testing::FailOutputBuffers(false); }

  Member Join(int32_t key) {
    auto [request, log] = testing::NewRequest({});
    auto live = std::make_unique<LiveRequest>(nullptr, request);
    return {log, std::make_unique<ResponseStream>(std::move(live), Clock::now(), DeltaGroupMembership{group_, key})};
  }

  Member JoinResumed(int32_t key, int32_t resumed_tokens) {
    auto [request, log] = testing::NewRequest({});
    auto live = std::make_unique<LiveRequest>(nullptr, request);
    return {log, std::make_unique<ResponseStream>(std::move(live), Clock::now(),
                                                  DeltaGroupMembership{group_, key, resumed_tokens})};
  }

  static std::vector<ReceivedResponse> End(Member& member) {
    member.stream->OnFinished({}, Summary(true));
    member.stream.reset();
    return member.log->WaitForRelease();
  }

  static std::string ReasonOf(const ReceivedResponse& response) {
    return std::get<std::string>(response.parameters.at("finish_reason"));
  }

  std::shared_ptr<DeltaGroup> group_ = std::make_shared<DeltaGroup>();
};

TEST_F(DeltaGroupTest, TokensOfAnEarlierRunCountAsSent) {
  Member resumed = JoinResumed(7, 20);
  resumed.stream->OnDelta(Delta(0, {1, 2}));
  resumed.stream->OnStepEnd();
  resumed.stream->OnDelta(Delta(0, {3}));
  resumed.stream->OnStepEnd();
  const auto responses = End(resumed);
  ASSERT_EQ(responses.size(), 3U);
  EXPECT_EQ(Int32s(responses[0].tensors.at("output_ids")), (std::vector<int32_t>{7, 0, 20, 2, 1, 2}));
  EXPECT_EQ(Int32s(responses[1].tensors.at("output_ids")), (std::vector<int32_t>{7, 0, 22, 1, 3}));
}

TEST_F(DeltaGroupTest, OneResponseOfTheFirstCarriesAllTokensOfAStep) {
  Member first = Join(7);
  Member second = Join(9);
  first.stream->OnDelta(Delta(0, {1}));
  second.stream->OnDelta(Delta(0, {2, 3}));
  second.stream->OnDelta(Delta(1, {4}));
  first.stream->OnStepEnd();
  second.stream->OnStepEnd();
  second.stream->OnDelta(Delta(0, {5}));
  second.stream->OnStepEnd();
  const auto of_first = End(first);
  ASSERT_EQ(of_first.size(), 2U);
  EXPECT_EQ(Int32s(of_first[0].tensors.at("output_ids")),
            (std::vector<int32_t>{7, 0, 0, 1, 9, 0, 0, 2, 9, 1, 0, 1, 1, 2, 3, 4}));
  EXPECT_EQ(std::get<int64_t>(of_first[0].parameters.at("delta_count")), 3);
  EXPECT_FALSE(of_first[0].is_final);
  EXPECT_TRUE(of_first[1].is_final);
  const auto of_second = End(second);
  ASSERT_EQ(of_second.size(), 2U);
  EXPECT_EQ(Int32s(of_second[0].tensors.at("output_ids")), (std::vector<int32_t>{9, 0, 2, 1, 5}));
}

TEST_F(DeltaGroupTest, AnEndComesAfterTheTokensThatItsRequestHasInTheGroup) {
  Member carrier = Join(1);
  Member ending = Join(2);
  carrier.stream->OnDelta(Delta(0, {1}));
  ending.stream->OnDelta(Delta(1, {2}));
  End(ending);
  EXPECT_EQ(carrier.log->WaitForResponses(1).size(), 1U);
  // Nothing is left of a member that is gone.
  carrier.stream->OnDelta(Delta(0, {3}));
  carrier.stream->OnStepEnd();
  const auto responses = End(carrier);
  ASSERT_EQ(responses.size(), 3U);
  EXPECT_EQ(Int32s(responses[1].tensors.at("output_ids")), (std::vector<int32_t>{1, 0, 1, 1, 3}));
}

TEST_F(DeltaGroupTest, ACarrierThatEndsTakesItsTokensAndThoseOfOthersAlong) {
  Member carrier = Join(1);
  Member other = Join(2);
  carrier.stream->OnDelta(Delta(0, {1}));
  other.stream->OnDelta(Delta(0, {2}));
  const auto responses = End(carrier);
  ASSERT_EQ(responses.size(), 2U);
  EXPECT_EQ(Int32s(responses[0].tensors.at("output_ids")), (std::vector<int32_t>{1, 0, 0, 1, 2, 0, 0, 1, 1, 2}));
  other.stream->OnStepEnd();
  EXPECT_EQ(End(other).size(), 1U);
}

TEST_F(DeltaGroupTest, TokensThatCannotBeSentMakeTheirRequestsFail) {
  Member first = Join(1);
  Member second = Join(2);
  Member bystander = Join(3);
  testing::FailOutputBuffers(true);
  first.stream->OnDelta(Delta(0, {1}));
  second.stream->OnDelta(Delta(0, {2}));
  first.stream->OnStepEnd();
  testing::FailOutputBuffers(false);
  EXPECT_TRUE(first.stream->IsAbandoned());
  EXPECT_TRUE(second.stream->IsAbandoned());
  EXPECT_FALSE(bystander.stream->IsAbandoned());
  EXPECT_EQ(ReasonOf(End(first).back()), "error");
  EXPECT_EQ(ReasonOf(End(second).back()), "error");
  EXPECT_EQ(ReasonOf(End(bystander).back()), "stop");
}

TEST_F(DeltaGroupTest, WhatOneRequestCannotSendForAllEachSendsByItself) {
  Member broken = Join(1);
  Member whole = Join(2);
  testing::FailOutputBuffersOf(broken.log);
  broken.stream->OnDelta(Delta(0, {1, 2}));
  whole.stream->OnDelta(Delta(0, {3}));
  whole.stream->OnStepEnd();
  testing::FailOutputBuffersOf(nullptr);
  EXPECT_TRUE(broken.stream->IsAbandoned());
  EXPECT_FALSE(whole.stream->IsAbandoned());
  const auto responses = End(whole);
  ASSERT_EQ(responses.size(), 2U);
  EXPECT_EQ(Int32s(responses[0].tensors.at("output_ids")), (std::vector<int32_t>{2, 0, 0, 1, 3}));
  End(broken);
}

TEST(DeltaGroups, AGroupLivesAsLongAsItsMembers) {
  DeltaGroups groups;
  std::shared_ptr<DeltaGroup> group = groups.Get("a");
  EXPECT_EQ(groups.Get("a"), group);
  EXPECT_NE(groups.Get("b"), group);
  const std::weak_ptr<DeltaGroup> weak = group;
  group.reset();
  EXPECT_TRUE(weak.expired());
}

}  // namespace
}  // namespace naiad
