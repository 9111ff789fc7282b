// What the kernel tests share.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kernels/attention_math.h"
#include "kernels/attention_rows.h"
#include "kernels/parallel_for.h"
#include "kernels/quantised_row.h"

namespace naiad::testing {

inline std::vector<float> RandomFloats(std::mt19937& random, size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A row as it comes back from 8 bits.
inline std::vector<float> ThroughEightBits(std::span<const float> row) {
  const auto head_size = static_cast<int32_t>(row.size());
  std::vector<uint8_t> bytes(row.size() + kRowScaleBytes);
  AttentionMathFor(SimdLevel::kScalar).quantise_row(row.data(), head_size, bytes.data());
  std::vector<float> values;
  for (size_t d = 0; d < row.size(); ++d) {
    values.push_back(static_cast<float>(static_cast<int8_t>(bytes[d])) * RowScale(bytes.data(), head_size));
  }
  return values;
}

// The levels that this machine can run; the scalar one is always there. Under the thread sanitizer, which is slow, only
// the highest: threads share the work in the same way at every level.
inline std::vector<SimdLevel> AvailableLevels() {
  SimdLevel best = SimdLevel::kScalar;
  if (!ChooseSimdLevel(nullptr, &best).ok()) return {SimdLevel::kScalar};
#if defined(__SANITIZE_THREAD__)
  return {best};
#endif
  std::vector<SimdLevel> levels;
  for (const SimdLevel level : {SimdLevel::kScalar, SimdLevel::kAvx2, SimdLevel::kAvx512, SimdLevel::kAmx}) {
    if (level <= best) levels.push_back(level);
  }
  return levels;
}

inline std::string LevelName(SimdLevel level) {
  if (level >= SimdLevel::kAvx512) return level == SimdLevel::kAmx ? "Amx" : "Avx512";
  return level == SimdLevel::kAvx2 ? "Avx2" : "Scalar";
}

// Tasks on three threads that take them one by one.
inline void ThreadedFor(size_t count, const Task& task) {
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) task(i);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

// One head of one token in double precision. keys and values hold head_size floats a position, for positions first ..
// last.
inline std::vector<double> ReferenceRow(const AttentionLayer& layer, const float* query,
                                        const std::vector<const float*>& keys,
                                        const std::vector<const float*>& values) {
  const size_t size = static_cast<size_t>(layer.head_size);
  std::vector<double> weights;
  double max = -std::numeric_limits<double>::infinity();
  for (const float* key : keys) {
    double score = 0.0;
    for (size_t d = 0; d < size; ++d) score += static_cast<double>(query[d]) * static_cast<double>(key[d]);
    score *= static_cast<double>(layer.scale);
    const double softcap = static_cast<double>(layer.softcap);
    if (softcap > 0.0) score = softcap * std::tanh(score / softcap);
    weights.push_back(score);
    max = std::max(max, score);
  }
  double sum = 0.0;
  for (double& weight : weights) sum += weight = std::exp(weight - max);
  std::vector<double> output(size, 0.0);
  for (size_t j = 0; j < values.size(); ++j) {
    for (size_t d = 0; d < size; ++d) output[d] += weights[j] / sum * static_cast<double>(values[j][d]);
  }
  return output;
}

inline double MaxError(std::span<const float> actual, const std::vector<double>& expected) {
  double error = actual.size() == expected.size() ? 0.0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < expected.size() && i < actual.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    error = difference <= error ? error : difference;  // A NaN becomes the error.
  }
  return error;
}

}  // namespace naiad::testing
