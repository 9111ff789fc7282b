#include "triton/encoder_codec.h"

#include <gtest/gtest.h>

namespace naiad {
namespace {

InputTensor Int32s(const std::string& name, const std::vector<int32_t>& values) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  return {name,
          TRITONSERVER_TYPE_INT32,
          {static_cast<int64_t>(values.size())},
          {bytes, bytes + values.size() * sizeof(int32_t)}};
}

RequestContents TwoTexts(std::vector<std::string> outputs) {
  RequestContents contents;
  contents.id = "r";
  contents.inputs = {Int32s("input_ids", {1, 2, 3}), Int32s("sequence_lengths", {1, 2})};
  contents.requested_outputs = std::move(outputs);
  return contents;
}

const EncoderContract kEmbed{.task = Task::kEmbed, .pooling = "cls"};
const EncoderContract kClassify{.task = Task::kClassify, .pooling = "mean"};
const EncoderContract kClassifyTokens{.task = Task::kClassifyTokens, .pooling = "mean"};

TEST(DecodeEncoder, ReadsTensorsAndTakesThePoolingOfTheManifest) {
  EncoderRequest request;
  const Status status = DecodeEncoder(TwoTexts({"embeddings"}), kEmbed, &request);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(request.id, "r");
  EXPECT_EQ(request.input_ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(request.sequence_lengths, (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(request.token_type_ids.empty());
  EXPECT_EQ(request.pooling, Pooling::kCls);
  EXPECT_EQ(request.output, EncoderOutput::kEmbeddings);
}

TEST(DecodeEncoder, ARequestMayChooseItsPooling) {
  RequestContents contents = TwoTexts({"embeddings"});
  contents.parameters = {{"pooling", std::string("max")}};
  EncoderRequest request;
  ASSERT_TRUE(DecodeEncoder(contents, kEmbed, &request).ok());
  EXPECT_EQ(request.pooling, Pooling::kMax);
}

TEST(DecodeEncoder, TheRequestedOutputDecidesWhatIsComputed) {
  EncoderRequest request;
  ASSERT_TRUE(DecodeEncoder(TwoTexts({"hidden_states"}), kEmbed, &request).ok());
  EXPECT_EQ(request.output, EncoderOutput::kHiddenStates);
  ASSERT_TRUE(DecodeEncoder(TwoTexts({"logits"}), kClassify, &request).ok());
  EXPECT_EQ(request.output, EncoderOutput::kLogits);
  ASSERT_TRUE(DecodeEncoder(TwoTexts({"logits"}), kClassifyTokens, &request).ok());
  EXPECT_EQ(request.output, EncoderOutput::kTokenLogits);
}

TEST(DecodeEncoder, NamesWhatIsWrong) {
  EncoderRequest request;
  EXPECT_EQ(DecodeEncoder(TwoTexts({"embeddings", "hidden_states"}), kEmbed, &request).message(),
            "outputs must name exactly one of embeddings and hidden_states");
  RequestContents contents = TwoTexts({"embeddings"});
  contents.parameters = {{"pooling", std::string("last")}};
  EXPECT_EQ(DecodeEncoder(contents, kEmbed, &request).message(), "pooling is \"last\"; it must be mean, cls or max");
  contents.parameters = {{"poling", std::string("cls")}};
  EXPECT_EQ(DecodeEncoder(contents, kEmbed, &request).message(), "poling is not a known parameter");
}

TEST(DecodeEncoder, TheTimeThatIsLeftCountsFromArrival) {
  RequestContents contents = TwoTexts({"embeddings"});
  contents.parameters = {{"timeout_us", int64_t{1500}}};
  EncoderRequest request;
  ASSERT_TRUE(DecodeEncoder(contents, kEmbed, &request).ok());
  EXPECT_EQ(request.deadline, request.arrival + std::chrono::microseconds(1500));
  contents.parameters[0].value = int64_t{-1};
  EXPECT_EQ(DecodeEncoder(contents, kEmbed, &request).message(), "timeout_us is -1; it must be from 1 to 86400000000");
}

TEST(DecodeEncoder, AStopMessageIsToldByItsParameter) {
  RequestContents contents = TwoTexts({"embeddings"});
  EXPECT_FALSE(IsEncoderStop(contents));
  contents.parameters = {{"stop", true}};
  EXPECT_TRUE(IsEncoderStop(contents));
}

TEST(EncodeResult, IsNamedAfterTheOutputAndSaysWhereTheTimeWent) {
  EncoderResult result;
  result.values = {1.0F, 2.0F};
  result.rows = 1;
  result.width = 2;
  result.queue = std::chrono::microseconds(3);
  result.compute = std::chrono::microseconds(4);
  const ResponseContents response = EncodeResult(result, EncoderOutput::kHiddenStates);
  ASSERT_EQ(response.tensors.size(), 1U);
  EXPECT_STREQ(response.tensors[0].name, "hidden_states");
  EXPECT_EQ(response.tensors[0].shape, (std::vector<int64_t>{1, 2}));
  ASSERT_EQ(response.numbers.size(), 2U);
  EXPECT_EQ(response.numbers[0].value, 3);
  EXPECT_EQ(response.numbers[1].value, 4);
  EXPECT_STREQ(EncodeResult(result, EncoderOutput::kTokenLogits).tensors[0].name, "logits");
}

}  // namespace
}  // namespace naiad
