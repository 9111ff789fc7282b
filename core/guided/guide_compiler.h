// Compiles guides into grammars over the tokens of one model.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/status.h"
#include "guided/guide.h"

namespace naiad {

struct GuideCompilerOptions {
  std::string tokenizer_path;  // Empty: the model has none, and every guide is refused.
  int32_t vocabulary_size = 0;
  std::vector<int32_t> eos_token_ids;
  size_t cache_bytes = size_t{64} << 20U;               // Of compiled grammars that are kept for later requests.
  std::chrono::microseconds compile_limit{10'000'000};  // Of processor time, for one guide.
};

// Reads the tokenizer at the first guide, so that loading a model stays quick. All functions may be called by any
// thread; guides are compiled one after the other.
class GuideCompiler {
 public:
  explicit GuideCompiler(GuideCompilerOptions options);
  ~GuideCompiler();
  GuideCompiler(const GuideCompiler&) = delete;
  GuideCompiler& operator=(const GuideCompiler&) = delete;

  // The grammar if it is at hand, else null. Quick.
  [[nodiscard]] std::shared_ptr<const Grammar> Find(const GuideSpec& guide) const;

  // The grammar of `guide`, from the cache or compiled now: milliseconds mostly, up to `compile_limit` at worst.
  //   kInvalidArgument  the guide is wrong, too large or takes too long, or the model can follow none; names the field
  //   kInternal         the model's tokenizer cannot be read
  Status Compile(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar);

 private:
  class Cache;
  struct Backend;
  Status LoadBackend();
  Status CompileNew(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar, size_t* bytes);

  const GuideCompilerOptions options_;
  const std::unique_ptr<Cache> cache_;
  std::mutex mutex_;  // Of what follows.
  std::unique_ptr<Backend> backend_;
};

}  // namespace naiad
