#include "encoder/encoder_validation.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace naiad {
namespace {

constexpr EncoderShape kShape{100, 16, true, false, 2};

struct Case {
  std::string name;
  std::function<void(EncoderRequest&)> spoil;
  std::string message;
};

EncoderRequest GoodRequest() {
  EncoderRequest request;
  request.input_ids = {1, 2, 99, 0, 5};
  request.sequence_lengths = {2, 3};
  request.token_type_ids = {0, 1, 0, 0, 1};
  return request;
}

class BadRequestTest : public ::testing::TestWithParam<Case> {};

TEST_P(BadRequestTest, IsRefusedAndTheMessageNamesWhatIsWrong) {
  EncoderRequest request = GoodRequest();
  ASSERT_TRUE(ValidateEncoderRequest(kShape, request).ok());
  GetParam().spoil(request);
  const Status status = ValidateEncoderRequest(kShape, request);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Fields, BadRequestTest,
                         ::testing::Values(Case{"NoText", [](EncoderRequest& r) { r.sequence_lengths.clear(); },
                                                "sequence_lengths must have at least one entry"},
                                           Case{"EmptyText", [](EncoderRequest& r) { r.sequence_lengths = {5, 0}; },
                                                "sequence_lengths[1] is 0; it must be 1 to 16"},
                                           Case{"LongText", [](EncoderRequest& r) { r.sequence_lengths = {2, 17}; },
                                                "sequence_lengths[1] is 17; it must be 1 to 16"},
                                           Case{"WrongSum", [](EncoderRequest& r) { r.sequence_lengths = {2, 2}; },
                                                "sequence_lengths add up to 4, but input_ids has 5 tokens"},
                                           Case{"IdTooBig", [](EncoderRequest& r) { r.input_ids[3] = 100; },
                                                "input_ids has 100 at token 1 of sequence 1; it must be 0 to 99"},
                                           Case{"IdNegative", [](EncoderRequest& r) { r.input_ids[1] = -1; },
                                                "input_ids has -1 at token 1 of sequence 0; it must be 0 to 99"},
                                           Case{"TypeTooBig", [](EncoderRequest& r) { r.token_type_ids[2] = 2; },
                                                "token_type_ids has 2 at token 0 of sequence 1; it must be 0 to 1"},
                                           Case{"TypesTooFew", [](EncoderRequest& r) { r.token_type_ids.pop_back(); },
                                                "token_type_ids has 4 entries, but input_ids has 5"},
                                           Case{"WrongOutput",
                                                [](EncoderRequest& r) { r.output = EncoderOutput::kLogits; },
                                                "outputs: this model gives embeddings and hidden_states only"}),
                         [](const ::testing::TestParamInfo<Case>& which) { return which.param.name; });

TEST(EncoderValidationTest, TypesForAModelWithoutThemAreRefused) {
  EncoderShape shape = kShape;
  shape.uses_token_type_ids = false;
  EXPECT_EQ(ValidateEncoderRequest(shape, GoodRequest()).message(), "token_type_ids: this model does not take them");
}

TEST(EncoderValidationTest, EmbeddingsOfAModelThatGivesLogitsAreRefused) {
  EncoderShape shape = kShape;
  shape.output_per_sequence = true;
  EXPECT_EQ(ValidateEncoderRequest(shape, GoodRequest()).message(), "outputs: this model gives logits only");
}

TEST(EncoderValidationTest, AModelThatGivesLogitsForTokensGivesNothingElse) {
  EncoderShape shape = kShape;
  shape.token_logits = true;
  EncoderRequest request = GoodRequest();
  for (const EncoderOutput output :
       {EncoderOutput::kLogits, EncoderOutput::kEmbeddings, EncoderOutput::kHiddenStates}) {
    request.output = output;
    EXPECT_EQ(ValidateEncoderRequest(shape, request).message(), "outputs: this model gives logits only");
  }
  request.output = EncoderOutput::kTokenLogits;
  EXPECT_TRUE(ValidateEncoderRequest(shape, request).ok());
  EXPECT_EQ(ValidateEncoderRequest(kShape, request).message(),
            "outputs: this model gives embeddings and hidden_states only");
}

}  // namespace
}  // namespace naiad
