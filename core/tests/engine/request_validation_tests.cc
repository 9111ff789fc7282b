#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "engine/engine_options.h"
#include "engine/request_validation.h"
#include "tests/engine/engine_test_doubles.h"

namespace naiad {
namespace {

using testing::MakeRequest;
using testing::Recording;

constexpr DecoderShape kShape{.vocabulary_size = 100, .context_length_tokens = 64, .num_blocks = 8, .block_tokens = 4};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

GenerationRequest ValidRequest() { return MakeRequest("r", {1, 2, 3}, 5, std::make_shared<Recording>()); }

TEST(RequestValidationTest, TakesARequestWithEveryOptionAtItsLimit) {
  GenerationRequest request = ValidRequest();
  request.prompt_token_ids = {0, 99};
  request.sampling = {.temperature = 100.0F,
                      .top_k = 1000,
                      .top_p = 1.0F,
                      .min_p = 1.0F,
                      .repetition_penalty = 10.0F,
                      .presence_penalty = -2.0F,
                      .frequency_penalty = 2.0F,
                      .seed = UINT64_MAX,
                      .logit_bias = {{99, -100.0F}, {0, 100.0F}}};
  request.stopping.min_tokens = request.stopping.max_tokens = 31;  // 2 + 31 - 1 positions fill the 8 blocks.
  request.stopping.stop_token_ids.assign(64, 99);
  request.output = {.log_probs = true, .top_log_probs = 20, .context_log_probs = true};
  const Status status = ValidateRequest(request, kShape);
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST(RequestValidationTest, TakesNoNewTokensTogetherWithContextScores) {
  GenerationRequest request = ValidRequest();
  request.stopping.max_tokens = 0;
  request.output.context_log_probs = true;
  EXPECT_TRUE(ValidateRequest(request, kShape).ok());
}

TEST(RequestValidationTest, RefusesWhatTheTableSaysAndNamesTheField) {
  struct Case {
    std::string field;
    std::function<void(GenerationRequest&)> break_it;
  };
  using R = GenerationRequest;
  const std::vector<Case> cases = {
      {"sink", [](R& r) { r.sink = nullptr; }},
      {"id", [](R& r) { r.id.clear(); }},
      {"prompt_token_ids", [](R& r) { r.prompt_token_ids.clear(); }},
      {"prompt_token_ids", [](R& r) { r.prompt_token_ids[1] = 100; }},
      {"prompt_token_ids", [](R& r) { r.prompt_token_ids[1] = -1; }},
      {"temperature", [](R& r) { r.sampling.temperature = -0.1F; }},
      {"temperature", [](R& r) { r.sampling.temperature = 100.5F; }},
      {"temperature", [](R& r) { r.sampling.temperature = kNan; }},
      {"temperature", [](R& r) { r.sampling.temperature = kInfinity; }},
      {"top_k", [](R& r) { r.sampling.top_k = -1; }},
      {"top_p", [](R& r) { r.sampling.top_p = 0.0F; }},
      {"top_p", [](R& r) { r.sampling.top_p = 1.1F; }},
      {"top_p", [](R& r) { r.sampling.top_p = kNan; }},
      {"min_p", [](R& r) { r.sampling.min_p = -0.1F; }},
      {"min_p", [](R& r) { r.sampling.min_p = kNan; }},
      {"repetition_penalty", [](R& r) { r.sampling.repetition_penalty = 0.0F; }},
      {"repetition_penalty", [](R& r) { r.sampling.repetition_penalty = kInfinity; }},
      {"presence_penalty", [](R& r) { r.sampling.presence_penalty = 2.1F; }},
      {"frequency_penalty", [](R& r) { r.sampling.frequency_penalty = -2.1F; }},
      {"frequency_penalty", [](R& r) { r.sampling.frequency_penalty = kNan; }},
      {"logit_bias", [](R& r) { r.sampling.logit_bias = {{100, 0.0F}}; }},
      {"logit_bias", [](R& r) { r.sampling.logit_bias = {{1, 101.0F}}; }},
      {"logit_bias", [](R& r) { r.sampling.logit_bias = {{1, -kInfinity}}; }},
      {"logit_bias", [](R& r) { r.sampling.logit_bias.resize(1025); }},
      {"max_tokens", [](R& r) { r.stopping.max_tokens = -1; }},
      {"max_tokens", [](R& r) { r.stopping.max_tokens = 0; }},
      {"min_tokens", [](R& r) { r.stopping.min_tokens = -1; }},
      {"min_tokens", [](R& r) { r.stopping.min_tokens = 6; }},
      {"stop_token_ids", [](R& r) { r.stopping.stop_token_ids = {100}; }},
      {"stop_token_ids", [](R& r) { r.stopping.stop_token_ids.resize(65); }},
      {"resumed_tokens", [](R& r) { r.resume.tokens = -1; }},
      {"resumed_tokens", [](R& r) { r.resume.tokens = 3; }},
      {"resumed_tokens", [](R& r) { r.resume.tokens = r.stopping.max_tokens = 2; }},
      {"resumed_tokens",
       [](R& r) {
         r.resume.tokens = 1;
         r.output.context_log_probs = true;
       }},
      {"resumed_sequence", [](R& r) { r.resume.sequence_index = -1; }},
      {"resumed_sequence", [](R& r) { r.resume.sequence_index = kMaxSequences; }},
      {"num_sequences",
       [](R& r) {
         r.resume.sequence_index = 1;
         r.num_sequences = 2;
       }},
      {"top_log_probs", [](R& r) { r.output = {true, -1, false}; }},
      {"top_log_probs", [](R& r) { r.output = {true, 21, false}; }},
      {"top_log_probs", [](R& r) { r.output = {false, 1, false}; }},
  };
  for (const Case& item : cases) {
    GenerationRequest request = ValidRequest();
    item.break_it(request);
    const Status status = ValidateRequest(request, kShape);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << item.field;
    EXPECT_EQ(status.message().substr(0, item.field.size()), item.field) << status.message();
  }
}

TEST(RequestValidationTest, ResumedTokensAreNotCountedTwice) {
  GenerationRequest request = ValidRequest();
  request.prompt_token_ids.assign(2 + 30, 1);
  request.resume.tokens = 30;
  request.stopping.max_tokens = 31;  // 2 + 31 - 1 positions fill the 8 blocks.
  const Status status = ValidateRequest(request, kShape);
  EXPECT_TRUE(status.ok()) << status.message();
  request.stopping.max_tokens = 32;
  EXPECT_EQ(ValidateRequest(request, kShape).message(),
            "max_tokens: the prompt has 2 tokens and max_tokens is 32; they need 9 blocks of the KV cache, which has 8 "
            "blocks of 4 tokens");
}

TEST(RequestValidationTest, RefusesWhatExceedsTheContextWithAllNumbers) {
  GenerationRequest request = ValidRequest();
  request.stopping.max_tokens = 62;
  EXPECT_EQ(
      ValidateRequest(request, kShape).message(),
      "max_tokens: the prompt has 3 tokens and max_tokens is 62; together they must not exceed the model's context "
      "of 64 tokens");
  request.stopping.max_tokens = INT32_MAX;
  EXPECT_EQ(ValidateRequest(request, kShape).code(), ErrorCode::kInvalidArgument);
}

TEST(RequestValidationTest, RefusesWhatExceedsTheBlockPoolWithAllNumbers) {
  GenerationRequest request = ValidRequest();
  request.stopping.max_tokens = 31;
  EXPECT_EQ(ValidateRequest(request, kShape).message(),
            "max_tokens: the prompt has 3 tokens and max_tokens is 31; they need 9 blocks of the KV cache, which has 8 "
            "blocks of 4 tokens");
}

TEST(EngineOptionsTest, RefusesWhatNoEngineCanWorkWith) {
  struct Case {
    std::string field;
    std::function<void(EngineOptions&, DecoderShape&)> break_it;
  };
  using O = EngineOptions;
  using S = DecoderShape;
  const std::vector<Case> cases = {
      {"max_step_tokens", [](O& o, S&) { o.max_step_tokens = 1; }},
      {"max_active_requests", [](O& o, S&) { o.max_active_requests = 0; }},
      {"max_waiting_requests", [](O& o, S&) { o.max_waiting_requests = 0; }},
      {"max_context_rows", [](O& o, S&) { o.max_context_rows = 0; }},
      {"eos_token_ids", [](O& o, S&) { o.eos_token_ids = {100}; }},
      {"vocabulary_size", [](O&, S& s) { s.vocabulary_size = 0; }},
      {"context_length_tokens", [](O&, S& s) { s.context_length_tokens = 0; }},
      {"num_blocks", [](O&, S& s) { s.num_blocks = -1; }},
      {"block_tokens", [](O&, S& s) { s.block_tokens = 0; }},
  };
  EXPECT_TRUE(ValidateEngineOptions({}, kShape).ok());
  for (const Case& item : cases) {
    EngineOptions options;
    DecoderShape shape = kShape;
    item.break_it(options, shape);
    const Status status = ValidateEngineOptions(options, shape);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << item.field;
    EXPECT_EQ(status.message().substr(0, item.field.size()), item.field) << status.message();
  }
}

TEST(EngineOptionsTest, AnEngineWithBadOptionsRefusesEveryRequestWithTheReason) {
  testing::EngineBench bench(EngineOptions{.max_step_tokens = 1});
  const Status status = bench.engine.Submit(ValidRequest());
  EXPECT_EQ(status.message(), "max_step_tokens is 1; it must be at least 2");
  EXPECT_EQ(bench.observer.rejected[ErrorCode::kInvalidArgument], 1);
}

TEST(NamesTest, ErrorCodesAndFinishReasonsHaveTheirWireNames) {
  EXPECT_EQ(ErrorCodeName(ErrorCode::kOk), "OK");
  EXPECT_EQ(ErrorCodeName(ErrorCode::kInvalidArgument), "INVALID_ARGUMENT");
  EXPECT_EQ(ErrorCodeName(ErrorCode::kResourceExhausted), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(ErrorCodeName(ErrorCode::kUnavailable), "UNAVAILABLE");
  EXPECT_EQ(ErrorCodeName(ErrorCode::kDeadlineExceeded), "DEADLINE_EXCEEDED");
  EXPECT_EQ(ErrorCodeName(ErrorCode::kCancelled), "CANCELLED");
  EXPECT_EQ(ErrorCodeName(ErrorCode::kInternal), "INTERNAL");
  EXPECT_EQ(FinishReasonName(FinishReason::kStop), "stop");
  EXPECT_EQ(FinishReasonName(FinishReason::kLength), "length");
  EXPECT_EQ(FinishReasonName(FinishReason::kCancelled), "cancelled");
  EXPECT_EQ(FinishReasonName(FinishReason::kError), "error");
}

}  // namespace
}  // namespace naiad
