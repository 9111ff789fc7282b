// The encoder's glue over the real engine, a runner with one value a token, and a fake server.
#include "triton/encoder_instance.h"

#include <gtest/gtest.h>

#include "fake_triton.h"

namespace naiad {
namespace {

using testing::Int32Input;
using testing::MetricValue;
using testing::NewRequest;
using testing::RequestSpec;

// The hidden vector of a token is the token itself and its position.
class EchoRunner : public EncoderRunner {
 public:
  [[nodiscard]] const EncoderShape& shape() const override { return shape_; }

  Status Run(const EncoderBatch& batch, std::span<const float>* output) override {
    values_.clear();
    for (size_t row = 0; row < batch.input_ids.size(); ++row) {
      values_.push_back(static_cast<float>(batch.input_ids[row]));
      values_.push_back(static_cast<float>(batch.position_ids[row]));
    }
    *output = values_;
    return Status::Ok();
  }

 private:
  EncoderShape shape_{.vocabulary_size = 100,
                      .context_length_tokens = 16,
                      .uses_token_type_ids = false,
                      .output_per_sequence = false,
                      .output_width = 2};
  std::vector<float> values_;
};

class EncoderInstanceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MetricFamilies::Create(&families_).ok());
    std::unique_ptr<ModelMetrics> metrics;
    ASSERT_TRUE(ModelMetrics::Create(*families_, {{"model", "embed"}}, EngineKind::kEncoder, &metrics).ok());
    instance_ = std::make_unique<EncoderInstance>(nullptr, EncoderContract{}, EncoderEngineOptions{},
                                                  std::make_unique<EchoRunner>(), std::move(metrics));
  }

  static RequestSpec TwoTexts(const std::string& output) {
    return {.id = "r",
            .inputs = {Int32Input("input_ids", {4, 6, 9}), Int32Input("sequence_lengths", {2, 1})},
            .parameters = {},
            .requested_outputs = {output}};
  }

  std::shared_ptr<testing::RequestLog> Execute(RequestSpec spec) {
    auto [request, log] = NewRequest(std::move(spec));
    instance_->Execute(request);
    return log;
  }

  std::unique_ptr<MetricFamilies> families_;
  std::unique_ptr<EncoderInstance> instance_;
};

TEST_F(EncoderInstanceTest, AStopMessageIsAnsweredAtOnceAndIsNoInference) {
  RequestSpec spec = TwoTexts("embeddings");
  spec.parameters = {{"stop", true}};
  const auto log = Execute(std::move(spec));
  const auto responses = log->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_TRUE(responses[0].is_final);
  EXPECT_TRUE(responses[0].tensors.empty());
  EXPECT_TRUE(log->statistics().empty());
}

TEST_F(EncoderInstanceTest, AnswersOnceWithOneVectorAText) {
  const auto log = Execute(TwoTexts("embeddings"));
  const auto responses = log->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_TRUE(responses[0].is_final);
  const testing::ReceivedTensor& tensor = responses[0].tensors.at("embeddings");
  EXPECT_EQ(tensor.shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(testing::Floats(tensor), (std::vector<float>{5.0F, 0.5F, 9.0F, 0.0F}));
  EXPECT_TRUE(responses[0].parameters.contains("queue_us"));
  EXPECT_TRUE(responses[0].parameters.contains("compute_us"));
  ASSERT_EQ(log->statistics().size(), 1U);
  EXPECT_TRUE(log->statistics()[0].success);
}

TEST_F(EncoderInstanceTest, GivesOneVectorATokenWhenHiddenStatesAreAskedFor) {
  const auto responses = Execute(TwoTexts("hidden_states"))->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_EQ(testing::Floats(responses[0].tensors.at("hidden_states")),
            (std::vector<float>{4.0F, 0.0F, 6.0F, 1.0F, 9.0F, 0.0F}));
}

TEST_F(EncoderInstanceTest, AFailureIsATritonErrorThatStartsWithTheStatus) {
  RequestSpec bad = TwoTexts("embeddings");
  bad.parameters["pooling"] = std::string("last");
  const auto log = Execute(bad);
  const auto responses = log->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_TRUE(responses[0].is_final);
  EXPECT_EQ(responses[0].error, "[INVALID_ARGUMENT] pooling is \"last\"; it must be mean, cls or max");
  ASSERT_EQ(log->statistics().size(), 1U);
  EXPECT_FALSE(log->statistics()[0].success);
  EXPECT_EQ(MetricValue("naiad_request_failure_total{model=embed,reason=INVALID_ARGUMENT}"), 1.0);
}

TEST_F(EncoderInstanceTest, WhatTheEngineRefusesIsAnErrorToo) {
  RequestSpec bad = TwoTexts("embeddings");
  bad.inputs[1] = Int32Input("sequence_lengths", {2, 2});
  const auto responses = Execute(bad)->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_EQ(responses[0].error.rfind("[INVALID_ARGUMENT] sequence_lengths", 0), 0U) << responses[0].error;
}

}  // namespace
}  // namespace naiad
