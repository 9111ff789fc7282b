#include "ort/ort_runtime.h"

#include <gtest/gtest.h>

#include "ort/ort_status.h"
#include "ort_test_support.h"

namespace naiad::testing {
namespace {

TEST(OrtRuntimeTest, SamePathGivesTheSameRuntimeWhileItIsInUse) {
  const std::shared_ptr<OrtRuntime> first = LoadRuntime();
  EXPECT_EQ(LoadRuntime(), first);
  EXPECT_FALSE(first->version().empty());
}

TEST(OrtRuntimeTest, AnotherLibraryIsRefusedWhileOneIsInUse) {
  const std::shared_ptr<OrtRuntime> first = LoadRuntime();
  std::shared_ptr<OrtRuntime> second;
  const Status status = OrtRuntime::Load("/another/libonnxruntime.so", &second);
  EXPECT_EQ(status.code(), ErrorCode::kInternal);
  EXPECT_EQ(second, nullptr);
  EXPECT_NE(status.message().find("in use from"), std::string::npos) << status.message();
}

TEST(OrtRuntimeTest, MissingLibraryIsNamed) {
  std::shared_ptr<OrtRuntime> runtime;
  const Status status = OrtRuntime::Load("/nowhere/libonnxruntime.so", &runtime);
  EXPECT_EQ(status.code(), ErrorCode::kInternal);
  EXPECT_NE(status.message().find("/nowhere/libonnxruntime.so"), std::string::npos) << status.message();
}

TEST(OrtRuntimeTest, LibraryThatIsNotOnnxRuntimeIsRefused) {
  std::shared_ptr<OrtRuntime> runtime;
  const Status status = OrtRuntime::Load("libm.so.6", &runtime);
  EXPECT_EQ(status.message(), "libm.so.6 is not ONNX Runtime: it has no OrtGetApiBase");
}

TEST(OrtStatusTest, OnlyMessagesAboutMemoryAreResourceExhausted) {
  EXPECT_EQ(StatusFromOrtMessage("Failed to allocate memory for requested buffer of size 8").code(),
            ErrorCode::kResourceExhausted);
  EXPECT_EQ(StatusFromOrtMessage("Non-zero status code returned while running Add node. Status Message: std::bad_alloc")
                .code(),
            ErrorCode::kResourceExhausted);
  EXPECT_EQ(StatusFromOrtMessage("Invalid rank for input: input_ids").code(), ErrorCode::kInternal);
}

TEST(OrtStatusTest, NothingThatABodyThrowsComesThrough) {
  EXPECT_EQ(CatchAsStatus([] { throw std::bad_alloc(); }).code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(CatchAsStatus([] { throw std::runtime_error("odd"); }).message(), "ONNX Runtime: odd");
  EXPECT_TRUE(CatchAsStatus([] {}).ok());
}

}  // namespace
}  // namespace naiad::testing
