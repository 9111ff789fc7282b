#include "config/backend_config.h"

#include <gtest/gtest.h>

namespace naiad {
namespace {

TEST(BackendConfig, FindsTheLibraryAmongTritonsOwnSettings) {
  BackendConfig config;
  const Status status = ParseBackendConfig(
      R"({"cmdline": {"auto-complete-config": "true", "onnxruntime_library": "/opt/libonnxruntime.so"}})", &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.onnxruntime_library, "/opt/libonnxruntime.so");
}

TEST(BackendConfig, RefusesAMissingLibraryByName) {
  BackendConfig config;
  EXPECT_EQ(ParseBackendConfig(R"({"cmdline": {"onnxruntime_libary": "x"}})", &config).message(),
            "--backend-config=naiad: cmdline.onnxruntime_library is missing");
  EXPECT_EQ(ParseBackendConfig(R"({"cmdline": {"onnxruntime_library": ""}})", &config).message(),
            "--backend-config=naiad: cmdline.onnxruntime_library is \"\"; it must be a text that is not empty");
}

}  // namespace
}  // namespace naiad
