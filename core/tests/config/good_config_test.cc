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
  EXPECT_EQ(config.decoder.kv_cache_type, KvCacheType::kFloat);
  EXPECT_EQ(config.graph_path, "1/model.onnx");
  EXPECT_EQ(config.tokenizer_path, "tokenizer.json");
  EXPECT_EQ(config.limits.kv_cache_bytes, 1048576);
  EXPECT_EQ(config.limits.intra_op_threads, 2);
}

TEST(ModelConfig, LeavesParametersThatAreNotSetAtTheirDefaults) {
  ModelConfig config;
  ASSERT_TRUE(ParseModelConfig({"chat", 1}, kGenerateTriton, kGenerateManifest, &config).ok());
  EXPECT_EQ(config.limits.max_step_tokens, 512);
  EXPECT_EQ(config.limits.max_active_requests, 64);
  EXPECT_EQ(config.limits.max_waiting_requests, 256);
  EXPECT_EQ(config.limits.max_draft_tokens, 8);
  EXPECT_EQ(config.limits.max_step_stretch, 1.8F);
  EXPECT_TRUE(config.limits.prefix_cache);
}

TEST(ModelConfig, ReadsSpeculationStretchAndPrefixCache) {
  nlohmann::json triton = nlohmann::json::parse(kGenerateTriton);
  triton["parameters"]["max_draft_tokens"]["string_value"] = "0";
  triton["parameters"]["max_step_stretch"]["string_value"] = "1.1";
  triton["parameters"]["prefix_cache"]["string_value"] = "false";
  ModelConfig config;
  const Status status = ParseModelConfig({"chat", 1}, triton.dump(), kGenerateManifest, &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.limits.max_draft_tokens, 0);
  EXPECT_EQ(config.limits.max_step_stretch, 1.1F);
  EXPECT_FALSE(config.limits.prefix_cache);
}

TEST(ModelConfig, EightBitCacheNeedsAboutAQuarterOfTheBytesForOneBlock) {
  std::string manifest = kGenerateManifest;
  manifest.replace(manifest.find("\"kv_block_tokens\""), 0, "\"kv_cache_type\": \"int8\", ");
  std::string triton = kGenerateTriton;
  triton.replace(triton.find("1048576"), 7, "195840");  // 2 * 30 layers * 3 heads * 16 positions * (64 + 4) bytes
  ModelConfig config;
  const Status status = ParseModelConfig({"chat", 1}, triton, manifest, &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.decoder.kv_cache_type, KvCacheType::kInt8);
  EXPECT_EQ(config.limits.kv_cache_bytes, 195'840);
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

TEST(ModelConfig, AClassifierOfTokensIsOneOfTextsWithAnotherTask) {
  std::string manifest = kClassifyManifest;
  const std::string task = "\"classify\"";
  manifest.replace(manifest.find(task), task.size(), "\"classify_tokens\"");
  ModelConfig config;
  const Status status = ParseModelConfig({"sentiment", 1}, kClassifyTriton, manifest, &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.task, Task::kClassifyTokens);
  EXPECT_EQ(TaskName(config.task), "classify_tokens");
  EXPECT_EQ(config.num_labels, 2);
}

TEST(ModelConfig, LoadingGivesAbsolutePaths) {
  const auto folder = FreshFolder("naiad_config_good");
  WriteFile(folder / "naiad.json", kGenerateManifest);
  WriteFile(folder / "1/model.onnx", "0123456789");
  ModelConfig config;
  const Status status = LoadModelConfig({"chat", 1}, kGenerateTriton, folder.string(), &config);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(config.graph_path, (folder / "1/model.onnx").string());
  EXPECT_EQ(config.tokenizer_path, (folder / "tokenizer.json").string());
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
