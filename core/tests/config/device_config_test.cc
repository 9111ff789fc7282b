// Which device a model is for: the manifest says it, and Triton's configuration has to agree.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "config/model_config.h"
#include "sample_configs.h"

namespace naiad {
namespace {

TEST(DeviceConfig, ReadsTheGpuAndTheHalfPrecisionCacheOfAModelForCuda) {
  nlohmann::json manifest = nlohmann::json::parse(kGenerateManifest);
  nlohmann::json triton = nlohmann::json::parse(kGenerateTriton);
  manifest["device"] = "cuda";
  triton["instance_group"] = {{{"kind", "KIND_GPU"}, {"count", 1}, {"gpus", {3}}}};
  // The least that is taken: one block of half precision over all layers.
  triton["parameters"]["kv_cache_bytes"]["string_value"] = std::to_string(2 * 2 * 30 * 3 * 64 * 16);
  for (const auto& [precision, type] :
       {std::pair("fp16", KvCacheType::kFloat16), std::pair("bf16", KvCacheType::kBfloat16)}) {
    manifest["precision"] = precision;
    ModelConfig config;
    const Status status = ParseModelConfig({"chat", 1}, triton.dump(), manifest.dump(), &config);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(config.device, Device::kCuda);
    EXPECT_EQ(config.gpu, 3);
    EXPECT_EQ(config.decoder.kv_cache_type, type);
  }
}

TEST(DeviceConfig, AModelIsForTheCpuUnlessItsManifestSaysOtherwise) {
  ModelConfig config;
  ASSERT_TRUE(ParseModelConfig({"chat", 1}, kGenerateTriton, kGenerateManifest, &config).ok());
  EXPECT_EQ(config.device, Device::kCpu);
  nlohmann::json manifest = nlohmann::json::parse(kGenerateManifest);
  manifest["device"] = "cpu";
  ASSERT_TRUE(ParseModelConfig({"chat", 1}, kGenerateTriton, manifest.dump(), &config).ok());
  EXPECT_EQ(config.device, Device::kCpu);
}

}  // namespace
}  // namespace naiad
