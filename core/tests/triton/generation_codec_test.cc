#include "triton/generation_codec.h"

#include <gtest/gtest.h>

namespace naiad {
namespace {

template <typename Number>
InputTensor Tensor(const std::string& name, TRITONSERVER_DataType type, const std::vector<Number>& values) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  return {name, type, {static_cast<int64_t>(values.size())}, {bytes, bytes + values.size() * sizeof(Number)}};
}

InputTensor Int32s(const std::string& name, const std::vector<int32_t>& values) {
  return Tensor(name, TRITONSERVER_TYPE_INT32, values);
}

RequestContents Minimal() {
  RequestContents contents;
  contents.id = "r";
  contents.inputs = {Int32s("input_ids", {5, 6, 7})};
  contents.parameters = {{"request_output_len", int64_t{4}}};
  return contents;
}

std::string ErrorOf(const RequestContents& contents) {
  DecodedGeneration decoded;
  const Status status = DecodeGeneration(contents, &decoded);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  return status.message();
}

TEST(DecodeGeneration, GivesTheContractsDefaults) {
  DecodedGeneration decoded;
  ASSERT_TRUE(DecodeGeneration(Minimal(), &decoded).ok());
  EXPECT_FALSE(decoded.is_stop);
  EXPECT_EQ(decoded.request.id, "r");
  EXPECT_EQ(decoded.request.prompt_token_ids, (std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(decoded.request.stopping.max_tokens, 4);
  EXPECT_EQ(decoded.request.sampling.temperature, 0.0F);
  EXPECT_EQ(decoded.request.sampling.top_p, 1.0F);
  EXPECT_EQ(decoded.request.sampling.repetition_penalty, 1.0F);
  EXPECT_FALSE(decoded.request.output.log_probs);
}

TEST(DecodeGeneration, ReadsEveryParameterAndTensor) {
  RequestContents contents = Minimal();
  contents.inputs.push_back(Int32s("stop_token_ids", {9}));
  contents.inputs.push_back(Int32s("logit_bias_ids", {3, 4}));
  contents.inputs.push_back(Tensor("logit_bias_values", TRITONSERVER_TYPE_FP32, std::vector<float>{-1.0F, 2.0F}));
  contents.parameters = {{"request_output_len", int64_t{8}},
                         {"min_tokens", int64_t{2}},
                         {"temperature", 0.5},
                         {"runtime_top_k", int64_t{40}},
                         {"runtime_top_p", 0.9},
                         {"min_p", 0.1},
                         {"presence_penalty", 0.2},
                         {"frequency_penalty", 0.3},
                         {"repetition_penalty", 1.5},
                         {"seed", int64_t{-1}},
                         {"ignore_eos", true},
                         {"return_log_probs", true},
                         {"top_log_probs", int64_t{5}},
                         {"return_context_log_probs", true}};
  DecodedGeneration decoded;
  const Status status = DecodeGeneration(contents, &decoded);
  ASSERT_TRUE(status.ok()) << status.message();
  const GenerationRequest& request = decoded.request;
  EXPECT_EQ(request.stopping.max_tokens, 8);
  EXPECT_EQ(request.stopping.min_tokens, 2);
  EXPECT_EQ(request.stopping.stop_token_ids, std::vector<int32_t>{9});
  EXPECT_TRUE(request.stopping.ignore_eos);
  EXPECT_EQ(request.sampling.temperature, 0.5F);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.top_p, 0.9F);
  EXPECT_EQ(request.sampling.min_p, 0.1F);
  EXPECT_EQ(request.sampling.presence_penalty, 0.2F);
  EXPECT_EQ(request.sampling.frequency_penalty, 0.3F);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(request.sampling.seed, UINT64_MAX);
  ASSERT_EQ(request.sampling.logit_bias.size(), 2U);
  EXPECT_EQ(request.sampling.logit_bias[1].token_id, 4);
  EXPECT_EQ(request.sampling.logit_bias[1].bias, 2.0F);
  EXPECT_TRUE(request.output.log_probs);
  EXPECT_EQ(request.output.top_log_probs, 5);
  EXPECT_TRUE(request.output.context_log_probs);
}

TEST(DecodeGeneration, AStopMessageNeedsOnlyItsId) {
  RequestContents contents;
  contents.id = "r";
  contents.parameters = {{"stop", true}};
  DecodedGeneration decoded;
  ASSERT_TRUE(DecodeGeneration(contents, &decoded).ok());
  EXPECT_TRUE(decoded.is_stop);
  EXPECT_EQ(decoded.request.id, "r");
}

TEST(DecodeGeneration, NamesWhatIsWrong) {
  RequestContents contents = Minimal();
  contents.id.clear();
  EXPECT_EQ(ErrorOf(contents), "id is empty; a request needs one");

  contents = Minimal();
  contents.inputs.clear();
  EXPECT_EQ(ErrorOf(contents), "input_ids must hold at least one token");

  contents = Minimal();
  contents.inputs[0].shape = {1, 3};
  EXPECT_EQ(ErrorOf(contents), "input_ids must have one dimension");

  contents = Minimal();
  contents.inputs[0].shape = {4};
  EXPECT_EQ(ErrorOf(contents), "input_ids has 12 bytes, which do not make 4 values");

  contents = Minimal();
  contents.parameters.clear();
  EXPECT_EQ(ErrorOf(contents), "request_output_len is missing");

  contents = Minimal();
  contents.parameters.push_back({"temprature", 0.5});
  EXPECT_EQ(ErrorOf(contents), "temprature is not a known parameter");

  contents = Minimal();
  contents.inputs.push_back(Int32s("logit_bias_ids", {3, 4}));
  EXPECT_EQ(ErrorOf(contents), "logit_bias_values has 0 values, but logit_bias_ids has 2");
}

TEST(EncodeDelta, CarriesTokensAndTheLogProbabilitiesThatAreThere) {
  TokenDelta delta;
  delta.token_ids = {11, 12};
  delta.log_probs = {.chosen = {-0.5F, -0.25F}, .top_count = 1, .top_ids = {11, 12}, .top_values = {-0.5F, -0.25F}};
  const ResponseContents response = EncodeDelta(delta);
  ASSERT_EQ(response.tensors.size(), 4U);
  EXPECT_STREQ(response.tensors[0].name, "output_ids");
  EXPECT_EQ(response.tensors[0].shape, (std::vector<int64_t>{2}));
  EXPECT_STREQ(response.tensors[1].name, "output_log_probs");
  EXPECT_STREQ(response.tensors[2].name, "top_log_prob_ids");
  EXPECT_EQ(response.tensors[2].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_STREQ(response.tensors[3].name, "top_log_prob_values");
}

TEST(EncodeDelta, CarriesContextScoresBesideNoTokens) {
  TokenDelta delta;
  delta.context_log_probs.chosen = {-1.0F};
  const ResponseContents response = EncodeDelta(delta);
  ASSERT_EQ(response.tensors.size(), 2U);
  EXPECT_EQ(response.tensors[0].shape, (std::vector<int64_t>{0}));
  EXPECT_STREQ(response.tensors[1].name, "context_log_probs");
}

TEST(EncodeFinished, AnErrorHasItsCodeAndMessage) {
  FinishedSummary summary;
  summary.reason = FinishReason::kError;
  summary.error = Status::ResourceExhausted("the inbox is full");
  const ResponseContents response = EncodeFinished({}, summary);
  ASSERT_EQ(response.texts.size(), 3U);
  EXPECT_EQ(response.texts[0].value, "error");
  EXPECT_STREQ(response.texts[1].name, "error_code");
  EXPECT_EQ(response.texts[1].value, "RESOURCE_EXHAUSTED");
  EXPECT_STREQ(response.texts[2].name, "error_message");
  EXPECT_EQ(response.texts[2].value, "the inbox is full");
}

}  // namespace
}  // namespace naiad
