// Guides of requests, a JSON schema or a regular expression: compiled, and followed for some tokens.
//
// Input: one byte for the kind, one that steers which tokens are taken, then the guide's text.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fuzz_check.h"
#include "tests/guided/guided_test_support.h"

namespace naiad {
namespace {

constexpr int kMostTokens = 24;
// Instrumented code is some ten times slower than what is served.
constexpr std::chrono::microseconds kCompileLimit{500'000};

void Follow(const Grammar& grammar, uint32_t choice) {
  const std::unique_ptr<LogitsRule> rule = grammar.MakeRule();
  for (int count = 0; count < kMostTokens; ++count) {
    const std::vector<int32_t> allowed = guided_test::AllowedTokens(*rule);
    if (allowed.empty()) return;
    const int32_t id = allowed[(choice * 31U + static_cast<uint32_t>(count) * 7U) % allowed.size()];
    NAIAD_FUZZ_CHECK(id != guided_test::kSpecial);
    if (id == guided_test::kEos) return;
    rule->OnToken(TokenOrigin::kGenerated, id);
  }
}

}  // namespace
}  // namespace naiad

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace naiad;
  if (size < 2) return 0;
  static const guided_test::TokenizerFile tokenizer;
  static GuideCompiler compiler = [] {
    GuideCompilerOptions options = guided_test::OptionsFor(tokenizer);
    options.cache_bytes = 1 << 20U;
    options.compile_limit = kCompileLimit;
    return GuideCompiler(options);
  }();
  const GuideSpec guide{.kind = data[0] % 2 == 0 ? GuideSpec::Kind::kJsonSchema : GuideSpec::Kind::kRegex,
                        .text = std::string(reinterpret_cast<const char*>(data) + 2, size - 2)};
  std::shared_ptr<const Grammar> grammar;
  if (const Status status = compiler.Compile(guide, &grammar); status.ok()) {
    NAIAD_FUZZ_CHECK(grammar != nullptr);
    Follow(*grammar, data[1]);
  } else {
    NAIAD_FUZZ_CHECK(status.code() == ErrorCode::kInvalidArgument);
    NAIAD_FUZZ_CHECK(!status.message().empty());
  }
  return 0;
}
