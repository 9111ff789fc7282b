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
  EXPECT_EQ(decoded.request.priority, 0);
  EXPECT_EQ(decoded.request.num_sequences, 1);
  EXPECT_TRUE(decoded.request.use_prefix_cache);
  EXPECT_FALSE(decoded.request.max_draft_tokens.has_value());
  EXPECT_EQ(decoded.request.resume.tokens, 0);
  EXPECT_FALSE(decoded.guide.has_value());
}

// Found by fuzzing: four times 2^62 is 0 in 64 bits, as many as there are bytes.
TEST(DecodeGeneration, RefusesShapesThatOverflow) {
  for (const int shift : {62, 61}) {
    RequestContents contents = Minimal();
    InputTensor& input = contents.inputs.front();
    input.shape = {int64_t{1} << shift};
    input.bytes.clear();
    EXPECT_EQ(ErrorOf(contents),
              "input_ids has 0 bytes, which do not make " + std::to_string(input.shape[0]) + " values");
  }
}

TEST(DecodeGeneration, RefusesBytesThatAreNoWholeNumbers) {
  RequestContents contents = Minimal();
  contents.inputs.front().bytes.push_back(0);
  EXPECT_EQ(ErrorOf(contents), "input_ids has 13 bytes, which do not make 3 values");
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
                         {"return_context_log_probs", true},
                         {"request_priority", int64_t{-7}},
                         {"num_return_sequences", int64_t{3}},
                         {"use_prefix_cache", false},
                         {"max_draft_tokens", int64_t{0}},
                         {"resumed_tokens", int64_t{2}},
                         {"resumed_sequence", int64_t{4}}};
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
  EXPECT_EQ(request.priority, -7);
  EXPECT_EQ(request.num_sequences, 3);
  EXPECT_FALSE(request.use_prefix_cache);
  EXPECT_EQ(request.max_draft_tokens, 0);
  EXPECT_EQ(request.resume.tokens, 2);
  EXPECT_EQ(request.resume.sequence_index, 4);
}

RequestContents WithGuide(const std::string& type, const std::string& text) {
  RequestContents contents = Minimal();
  contents.parameters.push_back({"guided_decoding_guide_type", type});
  contents.parameters.push_back({"guided_decoding_guide", text});
  return contents;
}

TEST(DecodeGeneration, ReadsEveryKindOfGuide) {
  const std::string longest(kMaxGuideBytes, 'a');
  DecodedGeneration decoded;
  ASSERT_TRUE(DecodeGeneration(WithGuide("json_schema", "{}"), &decoded).ok());
  EXPECT_EQ(decoded.guide->kind, GuideSpec::Kind::kJsonSchema);
  EXPECT_EQ(decoded.guide->text, "{}");
  ASSERT_TRUE(DecodeGeneration(WithGuide("regex", longest), &decoded).ok());
  EXPECT_EQ(decoded.guide->kind, GuideSpec::Kind::kRegex);
  EXPECT_EQ(decoded.guide->text, longest);
  RequestContents any_json = Minimal();
  any_json.parameters.push_back({"guided_decoding_guide_type", std::string("json")});
  ASSERT_TRUE(DecodeGeneration(any_json, &decoded).ok());
  EXPECT_EQ(decoded.guide->kind, GuideSpec::Kind::kJson);
}

TEST(DecodeGeneration, RefusesAGuideThatMakesNoSense) {
  EXPECT_EQ(ErrorOf(WithGuide("xml", "<a/>")), "guided_decoding_guide_type must be json_schema, regex or json");
  EXPECT_EQ(ErrorOf(WithGuide("regex", "")),
            "guided_decoding_guide must not be empty with this guided_decoding_guide_type");
  EXPECT_EQ(ErrorOf(WithGuide("json", "{}")),
            "guided_decoding_guide must be empty with this guided_decoding_guide_type");
  EXPECT_EQ(ErrorOf(WithGuide("regex", std::string(kMaxGuideBytes + 1, 'a'))),
            "guided_decoding_guide has 65537 bytes; at most 65536 are taken");

  RequestContents contents = Minimal();
  contents.parameters.push_back({"guided_decoding_guide", std::string("a*")});
  EXPECT_EQ(ErrorOf(contents), "guided_decoding_guide needs guided_decoding_guide_type");

  contents = WithGuide("regex", "a*");
  contents.parameters[1].value = int64_t{5};
  EXPECT_EQ(ErrorOf(contents), "guided_decoding_guide_type must be a string parameter");
}

TEST(DecodeGeneration, AGuideExcludesWhatWouldKeepATextFromEnding) {
  RequestContents contents = WithGuide("regex", "a*");
  contents.parameters.push_back({"ignore_eos", true});
  EXPECT_EQ(ErrorOf(contents), "ignore_eos must not be set together with a guide");

  contents = WithGuide("regex", "a*");
  contents.parameters.push_back({"min_tokens", int64_t{1}});
  EXPECT_EQ(ErrorOf(contents), "min_tokens must be 0 together with a guide");
}

TEST(DecodeGeneration, ReadsTheGroupOfARequestWithoutLogProbabilities) {
  RequestContents contents = Minimal();
  contents.parameters.push_back({"delta_group", std::string("g")});
  contents.parameters.push_back({"delta_key", int64_t{17}});
  DecodedGeneration decoded;
  ASSERT_TRUE(DecodeGeneration(contents, &decoded).ok());
  ASSERT_TRUE(decoded.delta_group.has_value());
  EXPECT_EQ(decoded.delta_group->group, "g");
  EXPECT_EQ(decoded.delta_group->key, 17);
  contents.parameters.push_back({"return_log_probs", true});
  DecodedGeneration with_log_probs;
  ASSERT_TRUE(DecodeGeneration(contents, &with_log_probs).ok());
  EXPECT_FALSE(with_log_probs.delta_group.has_value());
}

TEST(DecodeGeneration, RefusesAGroupThatMakesNoSense) {
  const auto error_of = [](std::vector<RequestParameter> parameters) {
    RequestContents contents = Minimal();
    contents.parameters.insert(contents.parameters.end(), parameters.begin(), parameters.end());
    return ErrorOf(contents);
  };
  EXPECT_EQ(error_of({{"delta_group", std::string("g")}}), "delta_group needs delta_key");
  EXPECT_EQ(error_of({{"delta_key", int64_t{1}}}), "delta_group must have 1 to 64 bytes");
  EXPECT_EQ(error_of({{"delta_key", int64_t{1}}, {"delta_group", std::string(65, 'g')}}),
            "delta_group must have 1 to 64 bytes");
  EXPECT_EQ(error_of({{"delta_key", int64_t{-1}}, {"delta_group", std::string("g")}}), "delta_key must be at least 0");
  EXPECT_EQ(error_of({{"delta_key", int64_t{1} << 31}, {"delta_group", std::string("g")}}),
            "delta_key is 2147483648; it must fit 32 bits");
}

TEST(DecodeGeneration, AStopMessageNeedsOnlyItsId) {
  RequestContents contents;
  contents.id = "r";
  contents.parameters = {{"stop", true}};
  DecodedGeneration decoded;
  ASSERT_TRUE(DecodeGeneration(contents, &decoded).ok());
  EXPECT_TRUE(decoded.is_stop);
  EXPECT_EQ(decoded.request.id, "r");
  EXPECT_FALSE(decoded.stop_sequence.has_value());
}

TEST(DecodeGeneration, AStopMessageMayNameOneSequence) {
  RequestContents contents;
  contents.id = "r";
  contents.parameters = {{"stop", true}, {"sequence_index", int64_t{15}}};
  DecodedGeneration decoded;
  ASSERT_TRUE(DecodeGeneration(contents, &decoded).ok());
  EXPECT_EQ(decoded.stop_sequence, 15);

  contents.parameters[1].value = int64_t{16};
  EXPECT_EQ(ErrorOf(contents), "sequence_index is 16; it must be from 0 to 15");
  contents.parameters[1].value = int64_t{-1};
  EXPECT_EQ(ErrorOf(contents), "sequence_index is -1; it must be from 0 to 15");
  contents.parameters[0].value = false;
  contents.inputs = Minimal().inputs;
  contents.parameters.push_back({"request_output_len", int64_t{4}});
  EXPECT_EQ(ErrorOf(contents), "sequence_index is not a known parameter");
}

TEST(DecodeGeneration, TheTimeThatIsLeftCountsFromArrival) {
  RequestContents contents = Minimal();
  DecodedGeneration decoded;
  ASSERT_TRUE(DecodeGeneration(contents, &decoded).ok());
  EXPECT_FALSE(decoded.request.deadline.has_value());
  contents.parameters.push_back({"timeout_us", int64_t{1500}});
  ASSERT_TRUE(DecodeGeneration(contents, &decoded).ok());
  EXPECT_EQ(decoded.request.deadline, decoded.request.arrival + std::chrono::microseconds(1500));
  contents.parameters.back().value = int64_t{0};
  EXPECT_EQ(ErrorOf(contents), "timeout_us is 0; it must be from 1 to 86400000000");
  contents.parameters.back().value = std::string("soon");
  EXPECT_EQ(ErrorOf(contents), "timeout_us must be an integer parameter");
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

int64_t NumberOf(const ResponseContents& response, const std::string& name) {
  for (const IntParameter& number : response.numbers) {
    if (number.name == name) return number.value;
  }
  ADD_FAILURE() << name << " is missing";
  return -1;
}

TEST(EncodeDeltas, CarriesTheMessageAndHowManyDeltasItHas) {
  const std::vector<int32_t> message = {1, 0, 0, 1, 42};
  const ResponseContents response = EncodeDeltas(message, 1);
  ASSERT_EQ(response.tensors.size(), 1U);
  EXPECT_STREQ(response.tensors[0].name, "output_ids");
  EXPECT_EQ(response.tensors[0].shape, (std::vector<int64_t>{5}));
  ASSERT_EQ(response.numbers.size(), 1U);
  EXPECT_STREQ(response.numbers[0].name, "delta_count");
  EXPECT_EQ(response.numbers[0].value, 1);
}

TEST(EncodeDelta, SaysWhichSequenceItContinues) {
  TokenDelta delta;
  delta.sequence_index = 2;
  EXPECT_EQ(NumberOf(EncodeDelta(delta), "sequence_index"), 2);
}

TEST(EncodeFinished, CarriesUsageAndTimesOfTheSequence) {
  FinishedSummary summary;
  summary.stop_token_id = 9;
  summary.prompt_tokens = 5;
  summary.cached_prompt_tokens = 4;
  summary.completion_tokens = 3;
  summary.preemptions = 2;
  summary.queue = std::chrono::microseconds(10);
  summary.prefill = std::chrono::microseconds(20);
  summary.decode = std::chrono::microseconds(30);
  summary.time_to_first_token = std::chrono::microseconds(40);
  summary.sequence_index = 1;
  const ResponseContents response = EncodeFinished({}, summary);
  const std::vector<std::pair<const char*, int64_t>> expected = {
      {"sequence_index", 1},    {"stop_token_id", 9},
      {"prompt_tokens", 5},     {"cached_prompt_tokens", 4},
      {"completion_tokens", 3}, {"preemptions", 2},
      {"queue_us", 10},         {"prefill_us", 20},
      {"decode_us", 30},        {"time_to_first_token_us", 40}};
  for (const auto& [name, value] : expected) EXPECT_EQ(NumberOf(response, name), value) << name;
  ASSERT_EQ(response.texts.size(), 1U);
  EXPECT_EQ(response.texts[0].value, "stop");
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
