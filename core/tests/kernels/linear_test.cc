#include "kernels/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "kernel_test_support.h"

namespace naiad::testing {
namespace {

// A layer with random codes, scales and minimums, and rows of activations.
struct Layer {
  LinearWeights weights;
  std::vector<uint8_t> packed;
  std::vector<float> bias;
  std::vector<float> input;
  int32_t rows = 0;
  std::vector<float> residual = {};
};

constexpr int32_t kFloatBytes = 4;

struct Sizes {
  LinearFormat format;
  int32_t inputs;
  int32_t outputs;
  int32_t rows;
};

// A half between 2^-7 and 2^-5, of either sign if `is_signed`.
uint16_t RandomHalf(std::mt19937& random, bool is_signed) {
  const uint32_t exponent = 8 + random() % 2;
  return static_cast<uint16_t>((is_signed ? random() % 2 : 0) << 15U | exponent << 10U | random() % 1024);
}

Layer RandomLayer(const Sizes& sizes, uint32_t seed) {
  std::mt19937 random(seed);
  Layer layer;
  const int32_t block_bytes = BlockBytes(sizes.format);
  const int32_t code_bytes = CodeBytes(sizes.format);
  layer.packed.resize(static_cast<size_t>(TilesOf(sizes.outputs) * TileBytes(sizes.format, sizes.inputs)));
  for (size_t at = 0; at < layer.packed.size(); at += static_cast<size_t>(block_bytes)) {
    for (int32_t i = 0; i < code_bytes; ++i) layer.packed[at + static_cast<size_t>(i)] = static_cast<uint8_t>(random());
    if (sizes.format == LinearFormat::kInt8Wide) {
      std::uniform_real_distribution<float> scale(0.01F, 0.03F);
      for (int32_t i = code_bytes; i < block_bytes; i += kFloatBytes) {
        const float value = scale(random);
        std::memcpy(layer.packed.data() + at + static_cast<size_t>(i), &value, sizeof(value));
      }
      continue;
    }
    for (int32_t i = code_bytes; i < block_bytes; i += 2) {
      const uint16_t half = RandomHalf(random, i >= code_bytes + kTileHalfBytes);
      std::memcpy(layer.packed.data() + at + static_cast<size_t>(i), &half, sizeof(half));
    }
  }
  layer.rows = sizes.rows;
  layer.input = RandomFloats(random, static_cast<size_t>(sizes.rows) * static_cast<size_t>(sizes.inputs));
  layer.bias = RandomFloats(random, static_cast<size_t>(sizes.outputs));
  layer.weights = {sizes.format, sizes.inputs, sizes.outputs, 0.5F, layer.packed, layer.bias};
  return layer;
}

// What gives the bits that `level` has to give.
const LinearMath& ReferenceFor(SimdLevel level) {
  return level == SimdLevel::kAmx ? ScalarBf16LinearMath() : ScalarLinearMath();
}

bool IsBf16(SimdLevel level, LinearFormat format) { return level == SimdLevel::kAmx && format == LinearFormat::kInt4; }

std::vector<float> Multiply(const Layer& layer, const LinearMath& math, const ParallelFor& parallel_for = SerialFor) {
  std::vector<float> output(static_cast<size_t>(layer.rows) * static_cast<size_t>(layer.weights.outputs),
                            std::numeric_limits<float>::quiet_NaN());
  LinearScratch scratch;
  EXPECT_TRUE(CheckLinearWeights(layer.weights).ok());
  const Status status = Linear({layer.weights, layer.input, output, layer.residual}, math, parallel_for, &scratch);
  EXPECT_TRUE(status.ok()) << status.message();
  return output;
}

std::vector<float> Multiply(const Layer& layer, SimdLevel level, const ParallelFor& parallel_for = SerialFor) {
  return Multiply(layer, LinearMathFor(level), parallel_for);
}

std::vector<float> Reference(const Layer& layer, SimdLevel level) { return Multiply(layer, ReferenceFor(level)); }

double HalfAt(const uint8_t* from) {
  uint16_t half = 0;
  std::memcpy(&half, from, sizeof(half));
  const double value = std::ldexp(1024.0 + half % 1024, (half >> 10U) % 32 - 25);
  return half >> 15U == 0 ? value : -value;
}

// One weight, as linear_layout.h describes it.
double WeightAt(const LinearWeights& weights, int32_t output, int32_t input) {
  const bool is_int4 = weights.format == LinearFormat::kInt4;
  const uint8_t* const block = weights.packed.data() +
                               output / kTileOutputs * TileBytes(weights.format, weights.inputs) +
                               input / BlockInputs(weights.format) * BlockBytes(weights.format);
  const int32_t column = output % kTileOutputs;
  const int32_t i = input % BlockInputs(weights.format);
  const uint8_t byte = block[(is_int4 ? i % 16 : i) / 4 * kVectorBytes + 4 * column + i % 4];
  const uint8_t* const scales = block + CodeBytes(weights.format);
  if (weights.format == LinearFormat::kInt8Wide) {
    float wide = 0.0F;
    std::memcpy(&wide, scales + kFloatBytes * column, sizeof(wide));
    return static_cast<double>(weights.factor) * static_cast<double>(wide) * (byte - 128);
  }
  const double scale = HalfAt(scales + 2 * column);
  if (!is_int4) return weights.factor * scale * (byte - 128);
  return weights.factor * (scale * (i < 16 ? byte % 16 : byte / 16) + HalfAt(scales + kTileHalfBytes + 2 * column));
}

// The largest difference to the product of what weights and rounded activations stand for, in double precision, as a
// share of the sum of the magnitudes that are added; beyond what cutting weights and rounding activations to bfloat16
// may take, for a level that does so.
double ErrorAgainstDoubles(const Layer& layer, const std::vector<float>& actual, SimdLevel level) {
  const bool is_bf16 = IsBf16(level, layer.weights.format);
  const double tolerance = is_bf16 ? 1.0 / 128 : 0.0;
  const LinearWeights& weights = layer.weights;
  LinearScratch scratch;
  const QuantisedRows row = scratch.Reserve(weights.format, 1, weights.inputs, 1);
  double error = 0.0;
  for (int32_t r = 0; r < layer.rows; ++r) {
    LinearMathFor(SimdLevel::kScalar).quantise_row(layer.input.data() + r * weights.inputs, weights.inputs, 1.0F, row);
    for (int32_t n = 0; n < weights.outputs; ++n) {
      double sum = static_cast<double>(layer.bias[static_cast<size_t>(n)]);
      double magnitude = std::abs(sum);
      for (int32_t k = 0; k < weights.inputs; ++k) {
        const double exact = static_cast<double>(layer.input[static_cast<size_t>(r * weights.inputs + k)]);
        const double rounded = static_cast<double>(row.scales[k / row.block_inputs]) * row.codes[k];
        const double activation = is_bf16 ? exact : rounded;
        sum += activation * WeightAt(weights, n, k);
        magnitude += std::abs(activation * WeightAt(weights, n, k));
      }
      const double value = static_cast<double>(actual[static_cast<size_t>(r * weights.outputs + n)]);
      const double difference = std::abs(value - sum) / (magnitude + 1e-30) - tolerance;
      error = difference <= error ? error : difference;  // A NaN becomes the error.
    }
  }
  return error;
}

std::vector<double> ToDoubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

std::string FormatName(const ::testing::TestParamInfo<LinearFormat>& which) {
  if (which.param == LinearFormat::kInt8Wide) return "Int8Wide";
  return which.param == LinearFormat::kInt4 ? "Int4" : "Int8";
}

class LinearTest : public ::testing::TestWithParam<LinearFormat> {};
INSTANTIATE_TEST_SUITE_P(Formats, LinearTest,
                         ::testing::Values(LinearFormat::kInt4, LinearFormat::kInt8, LinearFormat::kInt8Wide),
                         FormatName);

TEST_P(LinearTest, ReferenceIsTheProductOfWhatTheCodesStandFor) {
  for (const int32_t inputs : {1, 31, 32, 33, 100, 129, 576}) {
    for (const int32_t outputs : {1, 15, 16, 17, 40}) {
      const Layer layer = RandomLayer({GetParam(), inputs, outputs, 3}, static_cast<uint32_t>(inputs * 100 + outputs));
      for (const SimdLevel level : {SimdLevel::kScalar, SimdLevel::kAmx}) {
        ASSERT_LT(ErrorAgainstDoubles(layer, Reference(layer, level), level), 1e-6) << inputs << " x " << outputs;
      }
    }
  }
}

TEST_P(LinearTest, EveryLevelGivesTheBitsOfTheReferenceForOneToSeventyRows) {
  for (const SimdLevel level : AvailableLevels()) {
    for (int32_t rows = 1; rows <= 70; ++rows) {
      const int32_t inputs = 1 + rows * 37 % 400;
      const int32_t outputs = 1 + rows * 29 % 75;
      const Layer layer = RandomLayer({GetParam(), inputs, outputs, rows}, static_cast<uint32_t>(rows));
      ASSERT_EQ(Multiply(layer, level), Reference(layer, level)) << rows << " rows";
    }
  }
}

TEST_P(LinearTest, LargestCodesDoNotSaturate) {
  for (const SimdLevel level : AvailableLevels()) {
    for (const uint8_t byte : {uint8_t{0}, uint8_t{255}}) {
      Layer layer = RandomLayer({GetParam(), 128, 16, 2}, 5);
      std::fill_n(layer.packed.begin(), CodeBytes(GetParam()), byte);
      for (size_t i = 0; i < layer.input.size(); ++i) layer.input[i] = i < 128 ? 1.0F : -1.0F;
      ASSERT_LT(ErrorAgainstDoubles(layer, Multiply(layer, level), level), 1e-6);
    }
  }
}

TEST_P(LinearTest, ARowHasTheSameBitsAloneAndAmongSixtyNineOthersOnAnyThreads) {
  for (const SimdLevel level : AvailableLevels()) {
    const Layer many = RandomLayer({GetParam(), 600, 200, 70}, 11);
    const std::vector<float> together = Multiply(many, level, ThreadedFor);
    for (const int32_t row : {0, 1, 11, 12, 35, 69}) {
      Layer one = many;
      one.rows = 1;
      one.input.assign(many.input.begin() + row * 600, many.input.begin() + (row + 1) * 600);
      const auto its_part = together.begin() + row * 200;
      ASSERT_EQ(Multiply(one, level), std::vector<float>(its_part, its_part + 200)) << "row " << row;
    }
  }
}

TEST_P(LinearTest, RowsInSeveralPassesAndRoundedInSeveralTasksAreTheSame) {
  // Enough for two passes of bfloat16 as well, which are the longest.
  const Layer layer = RandomLayer({GetParam(), 1536, 17, 400}, 12);
  const SimdLevel best = AvailableLevels().back();
  const std::vector<float> output = Multiply(layer, best, ThreadedFor);
  EXPECT_EQ(output, Multiply(layer, best));
  EXPECT_EQ(output, Reference(layer, best));
  EXPECT_LT(ErrorAgainstDoubles(layer, output, best), 1e-6);
}

TEST_P(LinearTest, HoweverManyThreadsShareTheWorkEachOutputIsWrittenOnce) {
  for (const SimdLevel level : AvailableLevels()) {
    if (level == SimdLevel::kScalar) continue;  // Too slow for products that are worth sharing.
    for (const int32_t rows : {1, 2, 13, 64}) {
      const Layer layer = RandomLayer({GetParam(), 96, 4000, rows}, static_cast<uint32_t>(rows));
      const std::vector<float> alone = Multiply(layer, level);
      for (int round = 0; round < 5; ++round) ASSERT_EQ(Multiply(layer, level, ThreadedFor), alone) << rows << " rows";
      // More tasks than the product asks for: those that come late find nothing left.
      const ParallelFor more = [](size_t count, const Task& task) { SerialFor(3 * count + 5, task); };
      ASSERT_EQ(Multiply(layer, level, more), alone) << rows << " rows";
    }
  }
}

TEST_P(LinearTest, WithoutABiasThePlainProductComesOut) {
  for (const SimdLevel level : AvailableLevels()) {
    Layer layer = RandomLayer({GetParam(), 40, 20, 5}, 13);
    layer.weights.bias = {};
    std::fill(layer.bias.begin(), layer.bias.end(), 0.0F);
    ASSERT_LT(ErrorAgainstDoubles(layer, Multiply(layer, level), level), 1e-6);
  }
}

TEST_P(LinearTest, WhatIsNotFiniteShowsInItsRowAndInNoOther) {
  for (const SimdLevel level : AvailableLevels()) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Layer layer = RandomLayer({GetParam(), 70, 20, 3}, 14);
      const std::vector<float> before = Multiply(layer, level);
      layer.input[70 + 69] = bad;
      const std::vector<float> output = Multiply(layer, level);
      for (size_t i = 0; i < output.size(); ++i) {
        if (i / 20 == 1) {
          ASSERT_TRUE(std::isnan(output[i]));
        } else {
          ASSERT_EQ(output[i], before[i]);
        }
      }
    }
  }
}

TEST_P(LinearTest, ZerosAndNumbersThatAreAlmostZeroGiveTheBias) {
  for (const SimdLevel level : AvailableLevels()) {
    for (const float tiny : {0.0F, 1e-40F}) {
      Layer layer = RandomLayer({GetParam(), 33, 17, 1}, 15);
      std::fill(layer.input.begin(), layer.input.end(), tiny);
      ASSERT_EQ(Multiply(layer, level), layer.bias);
    }
  }
}

TEST_P(LinearTest, GatedActivationsAreSiluOfTheGateTimesTheUpInTheSameBitsAtEveryLevel) {
  for (const int32_t inputs : {1, 31, 40, 96}) {
    for (const int32_t rows : {1, 5, 13}) {
      Layer layer = RandomLayer({GetParam(), inputs, 20, rows}, static_cast<uint32_t>(inputs + rows));
      Layer gated = layer;
      gated.weights.is_gated = true;
      gated.input.clear();
      std::mt19937 random(9);
      for (size_t i = 0; i < layer.input.size(); i += static_cast<size_t>(inputs)) {
        const std::vector<float> gates = RandomFloats(random, static_cast<size_t>(inputs));
        gated.input.insert(gated.input.end(), gates.begin(), gates.end());
        const auto ups = layer.input.begin() + static_cast<ptrdiff_t>(i);
        gated.input.insert(gated.input.end(), ups, ups + inputs);
        for (size_t k = 0; k < gates.size(); ++k) {
          const double gate = static_cast<double>(gates[k]);
          layer.input[i + k] *= static_cast<float>(gate / (1.0 + std::exp(-gate)));
        }
      }
      gated.weights.packed = gated.packed;
      gated.weights.bias = gated.bias;
      for (const SimdLevel level : AvailableLevels()) {
        const std::vector<float> reference = Reference(gated, level);
        // An activation next to the middle of two codes may fall to either.
        ASSERT_LT(MaxError(reference, ToDoubles(Reference(layer, level))), 0.05);
        ASSERT_EQ(Multiply(gated, level), reference);
      }
    }
  }
}

TEST_P(LinearTest, NormalisedActivationsAreTheRowsRmsNormInTheSameBitsAtEveryLevel) {
  for (int32_t rows = 1; rows <= 70; rows += 3) {
    const int32_t inputs = 1 + rows * 37 % 130;
    Layer layer = RandomLayer({GetParam(), inputs, 20, rows}, static_cast<uint32_t>(inputs + rows));
    std::mt19937 random(9);
    const std::vector<float> weight = RandomFloats(random, static_cast<size_t>(inputs));
    Layer normalised = layer;
    normalised.weights.packed = normalised.packed;
    normalised.weights.bias = normalised.bias;
    normalised.weights.norm_weight = weight;
    normalised.weights.epsilon = 0.01F;
    for (size_t row = 0; row < layer.input.size(); row += weight.size()) {
      double squares = 0.0;
      for (size_t k = 0; k < weight.size(); ++k) squares += std::pow(static_cast<double>(layer.input[row + k]), 2);
      const double inverse = 1.0 / std::sqrt(squares / inputs + 0.01);
      for (size_t k = 0; k < weight.size(); ++k) {
        layer.input[row + k] = static_cast<float>(layer.input[row + k] * inverse * static_cast<double>(weight[k]));
      }
    }
    for (const SimdLevel level : AvailableLevels()) {
      const std::vector<float> reference = Reference(normalised, level);
      // An activation next to the middle of two codes may fall to either.
      ASSERT_LT(MaxError(reference, ToDoubles(Reference(layer, level))), 0.05);
      ASSERT_EQ(Multiply(normalised, level), reference) << rows;
    }
  }
}

TEST_P(LinearTest, AResidualIsAddedToTheOutputAtEveryLevelForAnyRowsAndColumns) {
  for (const SimdLevel level : AvailableLevels()) {
    for (int32_t rows = 1; rows <= 20; ++rows) {
      Layer layer = RandomLayer({GetParam(), 50, 1 + rows * 29 % 75, rows}, static_cast<uint32_t>(rows));
      std::vector<float> expected = Multiply(layer, level);
      std::mt19937 random(10);
      layer.residual = RandomFloats(random, expected.size());
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += layer.residual[i];
      ASSERT_EQ(Multiply(layer, level), expected) << rows << " rows";
    }
  }
}

TEST_P(LinearTest, GeluComesAfterTheBiasAndBeforeTheResidualInTheSameBitsAtEveryLevel) {
  for (const SimdLevel level : AvailableLevels()) {
    for (int32_t rows = 1; rows <= 70; rows += 3) {
      Layer layer =
          RandomLayer({GetParam(), 1 + rows * 37 % 300, 1 + rows * 29 % 75, rows}, static_cast<uint32_t>(rows));
      std::vector<double> expected;
      for (const float value : Reference(layer, level)) {
        const double x = static_cast<double>(value);
        expected.push_back(0.5 * x * std::erfc(-x / std::sqrt(2.0)));
      }
      std::mt19937 random(10);
      layer.residual = RandomFloats(random, expected.size());
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<double>(layer.residual[i]);
      layer.weights.has_gelu = true;
      const std::vector<float> reference = Reference(layer, level);
      ASSERT_LT(MaxError(reference, expected), 2e-5) << rows << " rows";
      ASSERT_EQ(Multiply(layer, level), reference) << rows << " rows";
    }
  }
}

TEST(LinearMathTest, CuttingWeightsToBfloat16IsMadeUpForOnAverage) {
  Layer layer = RandomLayer({LinearFormat::kInt4, 4096, 256, 1}, 21);
  layer.weights.bias = {};
  // Every 37th activation, so that an output is the sum of some of its weights, all of which are positive.
  for (size_t i = 0; i < layer.input.size(); ++i) layer.input[i] = i % 37 == 0 ? 1.0F : 0.0F;
  for (size_t at = kInt4CodeBytes; at < layer.packed.size(); at += BlockBytes(LinearFormat::kInt4)) {
    for (size_t i = kTileHalfBytes; i < 2 * kTileHalfBytes; i += 2) layer.packed[at + i + 1] &= 0x7fU;
  }
  double actual = 0.0;
  double expected = 0.0;
  const std::vector<float> outputs = Multiply(layer, ScalarBf16LinearMath());
  for (int32_t n = 0; n < layer.weights.outputs; ++n) {
    actual += static_cast<double>(outputs[static_cast<size_t>(n)]);
    for (int32_t k = 0; k < layer.weights.inputs; k += 37) expected += WeightAt(layer.weights, n, k);
  }
  EXPECT_NEAR(actual / expected, 1.0, 2e-4);
}

TEST(LinearMathTest, GeluIsNearTheTrueValueEverywhereAndKeepsNans) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Layer layer = RandomLayer({LinearFormat::kInt8Wide, 1, 20001, 1}, 3);
  layer.input = {0.0F};  // So that the outputs are the biases.
  for (size_t i = 0; i < layer.bias.size(); ++i) layer.bias[i] = static_cast<float>(i) * 1e-3F - 10.0F;
  layer.bias[7] = nan;
  layer.weights.has_gelu = true;
  for (const SimdLevel level : AvailableLevels()) {
    const std::vector<float> output = Multiply(layer, level);
    for (size_t i = 0; i < output.size(); ++i) {
      const double x = static_cast<double>(layer.bias[i]);
      if (i == 7) {
        ASSERT_TRUE(std::isnan(output[i]));
      } else {
        ASSERT_NEAR(static_cast<double>(output[i]), 0.5 * x * std::erfc(-x / std::sqrt(2.0)), 1e-5);
      }
    }
  }
}

TEST(LinearMathTest, SiluVanishesFarBelowZeroAndIsItsArgumentFarAbove) {
  for (const SimdLevel level : AvailableLevels()) {
    LinearScratch scratch;
    const QuantisedRows row = scratch.Reserve(LinearFormat::kInt8, 1, 3, 1);
    for (const float gate : {-3e38F, -200.0F, -100.0F}) {
      const std::array<float, 6> input{gate, gate, gate, 1.0F, 1.0F, 1.0F};
      LinearMathFor(level).quantise_gated_row(input.data(), 3, 1.0F, row);
      ASSERT_EQ(row.scales[0], 0.0F);
    }
    const std::array<float, 6> input{100.0F, 0.0F, -1.0F, 2.0F, 1.0F, 1.0F};
    LinearMathFor(level).quantise_gated_row(input.data(), 3, 1.0F, row);
    ASSERT_FLOAT_EQ(row.scales[0] * 127.0F, 200.0F);
  }
}

TEST_P(LinearTest, NoRowsIsNoWork) {
  EXPECT_TRUE(Multiply(RandomLayer({GetParam(), 32, 16, 0}, 16), SimdLevel::kScalar).empty());
}

TEST_P(LinearTest, WrongSizesAreRefusedByName) {
  Layer layer = RandomLayer({GetParam(), 64, 32, 2}, 17);
  std::vector<float> output(64);
  LinearScratch scratch;
  const auto refusal = [&](const LinearWeights& weights) { return CheckLinearWeights(weights).message(); };
  LinearWeights wrong = layer.weights;
  wrong.packed = wrong.packed.first(wrong.packed.size() - 1);
  EXPECT_THAT(refusal(wrong), ::testing::StartsWith("packed has "));
  wrong = layer.weights;
  wrong.bias = wrong.bias.first(31);
  EXPECT_EQ(refusal(wrong), "bias has 31 elements; expected 32");
  wrong.inputs = 0;
  EXPECT_EQ(refusal(wrong), "K is 0; it must be 1 to 16777216");
  wrong.inputs = 1 << 25;
  EXPECT_EQ(refusal(wrong), "K is 33554432; it must be 1 to 16777216");
  wrong = layer.weights;
  wrong.norm_weight = std::span(layer.input).first(63);
  EXPECT_EQ(refusal(wrong), "norm_weight has 63 elements; expected 64");
  wrong.norm_weight = std::span(layer.input).first(64);
  EXPECT_EQ(refusal(wrong), "epsilon must be more than 0");
  wrong.is_gated = true;
  EXPECT_EQ(refusal(wrong), "norm_weight is given for gated activations");
  const LinearMath& math = LinearMathFor(SimdLevel::kScalar);
  const std::span<const float> input(layer.input);
  EXPECT_EQ(Linear({layer.weights, input.first(127), output}, math, SerialFor, &scratch).message(),
            "input has 127 elements; expected rows of 64");
  EXPECT_EQ(Linear({layer.weights, input.first(64), output}, math, SerialFor, &scratch).message(),
            "output has 64 elements; expected 32");
  EXPECT_EQ(Linear({layer.weights, input, output, input.first(3)}, math, SerialFor, &scratch).message(),
            "residual has 3 elements; expected 64");
}

TEST(LinearScratchTest, MemoryIsKeptForLaterCalls) {
  LinearScratch scratch;
  const QuantisedRows large = scratch.Reserve(LinearFormat::kInt8, 64, 576, 6);
  const QuantisedRows small = scratch.Reserve(LinearFormat::kInt8Wide, 1, 100, 1);
  EXPECT_EQ(small.codes, large.codes);
  EXPECT_EQ(small.scales, large.scales);
  EXPECT_EQ(small.offsets, large.offsets);
  EXPECT_EQ(scratch.Reserve(LinearFormat::kInt8, 64, 576, 6).codes, large.codes);
}

}  // namespace
}  // namespace naiad::testing
