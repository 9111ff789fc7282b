#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "config/model_config.h"
#include "sample_configs.h"

namespace naiad {
namespace {

std::filesystem::path FreshFolder(const std::string& name) {
  const auto folder = std::filesystem::path(testing::TempDir()) / name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder / "1");
  return folder;
}

void WriteFile(const std::filesystem::path& path, const std::string& text) { std::ofstream(path) << text; }

TEST(ModelConfig, ReadsEveryFactOfADecoder) {
  ModelConfig config;
  const Status status = ParseModelConfig({"chat", 1}, kGenerateTriton, kGenerateManifest, &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.task, Task::kGenerate);
  EXPECT_EQ(config.name, "chat");
  EXPECT_EQ(config.version, 1);
  EXPECT_EQ(config.context_length_tokens, 8192);
  EXPECT_EQ(config.vocabulary_size, 49152);
  EXPECT_EQ(config.eos_token_ids, (std::vector<int32_t>{2, 7}));
  EXPECT_EQ(config.decoder.num_layers, 30);
  EXPECT_EQ(config.decoder.num_kv_heads, 3);
  EXPECT_EQ(config.decoder.head_size, 64);
  EXPECT_EQ(config.decoder.kv_block_tokens, 16);
  EXPECT_EQ(config.graph_path, "1/model.onnx");
  EXPECT_EQ(config.limits.kv_cache_bytes, 1048576);
  EXPECT_EQ(config.limits.intra_op_threads, 2);
}

TEST(ModelConfig, LeavesParametersThatAreNotSetAtTheirDefaults) {
  ModelConfig config;
  ASSERT_TRUE(ParseModelConfig({"chat", 1}, kGenerateTriton, kGenerateManifest, &config).ok());
  EXPECT_EQ(config.limits.max_step_tokens, 512);
  EXPECT_EQ(config.limits.max_active_requests, 64);
  EXPECT_EQ(config.limits.max_waiting_requests, 256);
}

TEST(ModelConfig, ReadsEveryFactOfAClassifier) {
  ModelConfig config;
  const Status status = ParseModelConfig({"sentiment", 1}, kClassifyTriton, kClassifyManifest, &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.task, Task::kClassify);
  EXPECT_EQ(config.encoder.hidden_size, 384);
  EXPECT_EQ(config.encoder.pooling, "cls");
  EXPECT_TRUE(config.encoder.uses_token_type_ids);
  EXPECT_EQ(config.num_labels, 2);
  EXPECT_EQ(config.limits.max_batch_tokens, 1024);
  EXPECT_TRUE(config.eos_token_ids.empty());
}

TEST(ModelConfig, LoadingGivesTheGraphsAbsolutePath) {
  const auto folder = FreshFolder("naiad_config_good");
  WriteFile(folder / "naiad.json", kGenerateManifest);
  WriteFile(folder / "1/model.onnx", "0123456789");
  ModelConfig config;
  const Status status = LoadModelConfig({"chat", 1}, kGenerateTriton, folder.string(), &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.graph_path, (folder / "1/model.onnx").string());
}

TEST(ModelConfig, LoadingRefusesATruncatedGraph) {
  const auto folder = FreshFolder("naiad_config_truncated");
  WriteFile(folder / "naiad.json", kGenerateManifest);
  WriteFile(folder / "1/model.onnx", "0123");
  ModelConfig config;
  EXPECT_EQ(LoadModelConfig({"chat", 1}, kGenerateTriton, folder.string(), &config).message(),
            (folder / "1/model.onnx").string() + " has 4 bytes, but naiad.json says 10");
}

TEST(ModelConfig, LoadingRefusesAFolderWithoutManifest) {
  const auto folder = FreshFolder("naiad_config_empty");
  ModelConfig config;
  EXPECT_EQ(LoadModelConfig({"chat", 1}, kGenerateTriton, folder.string(), &config).message(),
            "cannot read " + (folder / "naiad.json").string());
}

}  // namespace
}  // namespace naiad
