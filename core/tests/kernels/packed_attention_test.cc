#include "kernels/packed_attention.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernel_test_support.h"

namespace naiad::testing {
namespace {

struct Texts {
  AttentionLayer layer;
  std::vector<int32_t> cu_seqlens = {0};
  std::vector<float> query, key, value, output;

  [[nodiscard]] PackedAttentionArgs Args() { return {layer, query, key, value, cu_seqlens, output}; }
};

Texts RandomTexts(AttentionLayer layer, const std::vector<int32_t>& lengths, uint32_t seed) {
  Texts texts;
  texts.layer = layer;
  texts.layer.scale = 1.0F / std::sqrt(static_cast<float>(layer.head_size));
  for (const int32_t length : lengths) texts.cu_seqlens.push_back(texts.cu_seqlens.back() + length);
  const size_t tokens = static_cast<size_t>(texts.cu_seqlens.back());
  const size_t kv_width = static_cast<size_t>(layer.num_kv_heads * layer.head_size);
  std::mt19937 random(seed);
  texts.query = RandomFloats(random, tokens * static_cast<size_t>(layer.num_heads * layer.head_size));
  texts.key = RandomFloats(random, tokens * kv_width);
  texts.value = RandomFloats(random, tokens * kv_width);
  texts.output.assign(texts.query.size(), std::numeric_limits<float>::quiet_NaN());
  return texts;
}

double ErrorAgainstReference(const Texts& texts) {
  const AttentionLayer& layer = texts.layer;
  const int32_t group = layer.num_heads / layer.num_kv_heads;
  double error = 0.0;
  for (size_t s = 0; s + 1 < texts.cu_seqlens.size(); ++s) {
    const int32_t begin = texts.cu_seqlens[s];
    const int32_t end = texts.cu_seqlens[s + 1];
    for (int32_t t = begin; t < end; ++t) {
      for (int32_t head = 0; head < layer.num_heads; ++head) {
        const int32_t first = layer.window_tokens < 0 ? begin : std::max(begin, t - layer.window_tokens);
        const int32_t last = layer.window_tokens < 0 ? end - 1 : std::min(end - 1, t + layer.window_tokens);
        std::vector<const float*> keys, values;
        for (int32_t j = first; j <= last; ++j) {
          const int32_t offset = (j * layer.num_kv_heads + head / group) * layer.head_size;
          keys.push_back(texts.key.data() + offset);
          values.push_back(texts.value.data() + offset);
        }
        const size_t row = static_cast<size_t>((t * layer.num_heads + head) * layer.head_size);
        const auto actual = std::span(texts.output).subspan(row, static_cast<size_t>(layer.head_size));
        error = std::max(error, MaxError(actual, ReferenceRow(layer, texts.query.data() + row, keys, values)));
      }
    }
  }
  return error;
}

TEST(PackedAttentionTest, AgreesWithDoublePrecisionForOddShapes) {
  const std::vector<AttentionLayer> layers = {
      {12, 12, 32, 1.0F, 0.0F, -1}, {6, 2, 64, 1.0F, 0.0F, -1},  {9, 1, 20, 1.0F, 0.0F, 0},
      {4, 4, 33, 1.0F, 0.0F, 5},    {2, 1, 256, 1.0F, 0.0F, 40}, {70, 1, 8, 1.0F, 0.0F, -1},
  };
  for (const SimdLevel level : AvailableLevels()) {
    for (const AttentionLayer& layer : layers) {
      Texts texts = RandomTexts(layer, {1, 31, 32, 33, 0, 100, 2}, 11);
      ASSERT_TRUE(
          PackedAttention(texts.Args(), PackedAttentionMathFor(level), AttentionMathFor(level), SerialFor).ok());
      EXPECT_LT(ErrorAgainstReference(texts), 1e-5) << layer.num_heads << " heads of " << layer.head_size;
    }
  }
}

TEST(PackedAttentionTest, TextGetsTheSameBitsAloneAndPackedOnAnyThreads) {
  for (const SimdLevel level : AvailableLevels()) {
    Texts packed = RandomTexts({6, 2, 40, 1.0F, 0.0F, -1}, {37, 70, 5}, 12);
    ASSERT_TRUE(
        PackedAttention(packed.Args(), PackedAttentionMathFor(level), AttentionMathFor(level), ThreadedFor).ok());
    for (size_t s = 0; s < 3; ++s) {
      const size_t begin = static_cast<size_t>(packed.cu_seqlens[s]);
      const size_t end = static_cast<size_t>(packed.cu_seqlens[s + 1]);
      const auto rows = [&](const std::vector<float>& all, size_t width) {
        return std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(begin * width),
                                  all.begin() + static_cast<std::ptrdiff_t>(end * width));
      };
      Texts alone;
      alone.layer = packed.layer;
      alone.cu_seqlens = {0, static_cast<int32_t>(end - begin)};
      alone.query = rows(packed.query, 240);
      alone.key = rows(packed.key, 80);
      alone.value = rows(packed.value, 80);
      alone.output.resize(alone.query.size());
      ASSERT_TRUE(
          PackedAttention(alone.Args(), PackedAttentionMathFor(level), AttentionMathFor(level), SerialFor).ok());
      EXPECT_EQ(alone.output, rows(packed.output, 240));
    }
  }
}

TEST(PackedAttentionTest, LongTextsAndAnyNumberOfTokensAgreeWithDoublePrecision) {
  for (const SimdLevel level : AvailableLevels()) {
    for (const std::vector<int32_t>& lengths :
         {std::vector<int32_t>{500, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 63, 64, 65, 70}}) {
      Texts texts = RandomTexts({4, 2, 37, 1.0F, 0.0F, -1}, lengths, 14);
      ASSERT_TRUE(
          PackedAttention(texts.Args(), PackedAttentionMathFor(level), AttentionMathFor(level), ThreadedFor).ok());
      EXPECT_LT(ErrorAgainstReference(texts), 1e-5);
    }
  }
}

TEST(PackedAttentionTest, QueriesKeysAndValuesBesideEachOtherGiveTheSameBits) {
  for (const SimdLevel level : AvailableLevels()) {
    for (const AttentionLayer& layer :
         {AttentionLayer{12, 12, 32, 1.0F, 0.0F, -1}, AttentionLayer{6, 2, 20, 1.0F, 0.0F, -1}}) {
      Texts texts = RandomTexts(layer, {7, 40, 1}, 15);
      const auto run = [&] {
        ASSERT_TRUE(
            PackedAttention(texts.Args(), PackedAttentionMathFor(level), AttentionMathFor(level), SerialFor).ok());
      };
      run();
      const std::vector<float> apart = texts.output;
      std::vector<float> joined;
      const auto kv_width = static_cast<std::ptrdiff_t>(layer.num_kv_heads * layer.head_size);
      const auto query_width = static_cast<std::ptrdiff_t>(layer.num_heads * layer.head_size);
      for (std::ptrdiff_t t = 0; t < 48; ++t) {
        joined.insert(joined.end(), texts.query.begin() + t * query_width, texts.query.begin() + (t + 1) * query_width);
        joined.insert(joined.end(), texts.key.begin() + t * kv_width, texts.key.begin() + (t + 1) * kv_width);
        joined.insert(joined.end(), texts.value.begin() + t * kv_width, texts.value.begin() + (t + 1) * kv_width);
      }
      texts.query = joined;
      texts.key = texts.value = {};
      std::fill(texts.output.begin(), texts.output.end(), 0.0F);
      run();
      EXPECT_EQ(texts.output, apart);
      texts.layer.window_tokens = 3;
      EXPECT_EQ(
          PackedAttention(texts.Args(), PackedAttentionMathFor(level), AttentionMathFor(level), SerialFor).message(),
          "a layer with a window needs keys and values apart");
    }
  }
}

TEST(PackedAttentionTest, WhatIsNotFiniteStaysInItsText) {
  for (const SimdLevel level : AvailableLevels()) {
    Texts texts = RandomTexts({2, 2, 16, 1.0F, 0.0F, -1}, {5, 20}, 16);
    texts.key[3] = texts.value[40] = std::numeric_limits<float>::quiet_NaN();
    ASSERT_TRUE(PackedAttention(texts.Args(), PackedAttentionMathFor(level), AttentionMathFor(level), SerialFor).ok());
    for (size_t i = 0; i < texts.output.size(); ++i) {
      if (i >= size_t{5} * 32) {
        EXPECT_TRUE(std::isfinite(texts.output[i]));
      }
      if (i < size_t{5} * 32 && i % 32 < 16) {
        EXPECT_TRUE(std::isnan(texts.output[i]));  // Of the head with the key.
      }
    }
  }
}

TEST(PackedAttentionTest, WrongLengthsAreRefused) {
  Texts texts = RandomTexts({2, 2, 8, 1.0F, 0.0F, -1}, {3, 4}, 13);
  texts.cu_seqlens = {0, 5, 3, 7};
  EXPECT_EQ(PackedAttention(texts.Args(), PackedAttentionMathFor(SimdLevel::kScalar),
                            AttentionMathFor(SimdLevel::kScalar), SerialFor)
                .message(),
            "cu_seqlens must rise from 0 to the number of tokens, 7");
  texts.cu_seqlens = {0, 8};
  EXPECT_EQ(PackedAttention(texts.Args(), PackedAttentionMathFor(SimdLevel::kScalar),
                            AttentionMathFor(SimdLevel::kScalar), SerialFor)
                .message(),
            "query has 112 elements; expected 128");
}

}  // namespace
}  // namespace naiad::testing
