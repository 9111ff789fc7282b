// What the tests of core/ort share: the runtime, and the folder of tests/synthetic/make_ort_test_models.py.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "ort/ort_runtime.h"

namespace naiad::testing {

// ThreadSanitizer cannot see how ONNX Runtime's own threads wait for each other, as that library is not built with it.
// The threading of our kernels is tested without ONNX Runtime, in core/tests/kernels.
#if defined(__SANITIZE_THREAD__)
inline constexpr int32_t kThreads = 1;
#else
inline constexpr int32_t kThreads = 2;
#endif

inline std::string ModelsFolder() {
  const char* const folder = std::getenv("NAIAD_ORT_TEST_MODELS");
  if (folder == nullptr) ADD_FAILURE() << "NAIAD_ORT_TEST_MODELS is not set; run these tests with ctest";
  return folder == nullptr ? "" : folder;
}

// The lines of a text file in the folder.
inline std::vector<std::string> ReadLines(const std::string& name) {
  std::ifstream file(ModelsFolder() + "/" + name);
  if (!file) ADD_FAILURE() << "cannot read " << name;
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

inline std::vector<int32_t> ReadTokens(size_t line_of_expected_tokens) {
  std::istringstream line(ReadLines("expected_tokens.txt").at(line_of_expected_tokens));
  std::vector<int32_t> tokens;
  for (int32_t token = 0; line >> token;) tokens.push_back(token);
  return tokens;
}

inline std::shared_ptr<OrtRuntime> LoadRuntime() {
  std::shared_ptr<OrtRuntime> runtime;
  const Status status = OrtRuntime::Load(ReadLines("onnxruntime_library.txt").at(0), &runtime);
  EXPECT_TRUE(status.ok()) << status.message();
  return runtime;
}

}  // namespace naiad::testing
