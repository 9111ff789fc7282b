// Walks the folder bad/: each file changes a configuration that loads (JSON merge patches) and holds the exact message
// with which it must be refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "config/model_config.h"
#include "sample_configs.h"

namespace naiad {
namespace {

std::vector<std::filesystem::path> BadConfigs() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(NAIAD_BAD_CONFIGS)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string Patched(const char* base, const nlohmann::json& test_case, const char* patch) {
  nlohmann::json document = nlohmann::json::parse(base);
  if (test_case.contains(patch)) document.merge_patch(test_case.at(patch));
  return document.dump();
}

class BadConfig : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(BadConfig, IsRefusedWithItsMessage) {
  std::ifstream stream(GetParam());
  const nlohmann::json test_case = nlohmann::json::parse(stream);
  const bool classify = test_case.value("base", "generate") == "classify";
  const std::string triton = Patched(classify ? kClassifyTriton : kGenerateTriton, test_case, "triton");
  const std::string manifest = Patched(classify ? kClassifyManifest : kGenerateManifest, test_case, "manifest");
  ModelConfig config;
  const Status status = ParseModelConfig({classify ? "sentiment" : "chat", 1}, triton, manifest, &config);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), test_case.at("message").get<std::string>());
}

INSTANTIATE_TEST_SUITE_P(Folder, BadConfig, testing::ValuesIn(BadConfigs()),
                         [](const auto& test) { return test.param.stem().string(); });

TEST(BadConfigText, ManifestThatIsNotJsonIsRefused) {
  ModelConfig config;
  EXPECT_EQ(ParseModelConfig({"chat", 1}, kGenerateTriton, "{", &config).message(), "naiad.json: is not valid JSON");
  EXPECT_EQ(ParseModelConfig({"chat", 1}, kGenerateTriton, "[]", &config).message(),
            "naiad.json: is not a JSON object");
}

// Found by fuzzing: to write such a value into the message took a stack frame a level.
TEST(BadConfigText, DeepNestingIsRefused) {
  constexpr size_t kLevels = 200'000;
  const std::string nested = "{\"max_batch_size\":" + std::string(kLevels, '[') + std::string(kLevels, ']') + "}";
  ModelConfig config;
  EXPECT_EQ(ParseModelConfig({"chat", 1}, nested, kGenerateManifest, &config).message(),
            "config.pbtxt: has lists or objects nested more than 64 deep");
  EXPECT_EQ(ParseModelConfig({"chat", 1}, kGenerateTriton, nested, &config).message(),
            "naiad.json: has lists or objects nested more than 64 deep");
}

TEST(BadConfigText, MessagesStayShort) {
  nlohmann::json triton = nlohmann::json::parse(kGenerateTriton);
  triton["instance_group"][0]["kind"] = std::string(100'000, 'x');
  ModelConfig config;
  const Status status = ParseModelConfig({"chat", 1}, triton.dump(), kGenerateManifest, &config);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_LT(status.message().size(), 1'100);
}

}  // namespace
}  // namespace naiad
