#include "guided/guide_compiler.h"

#include <xgrammar/xgrammar.h>

#include <algorithm>
#include <exception>
#include <list>
#include <new>
#include <unordered_map>
#include <utility>

#include "guided/grammar_rule.h"
#include "guided/guide_check.h"
#include "guided/vocabulary.h"
#include "guided/work_limit.h"

namespace naiad {
namespace {

constexpr size_t kMaxErrorBytes = 300;
const std::string kAnyObject = R"({"type": "object", "additionalProperties": true})";

class CompiledGuide final : public Grammar {
 public:
  CompiledGuide(xgrammar::CompiledGrammar grammar, int32_t vocabulary_size)
      : grammar_(std::move(grammar)), vocabulary_size_(vocabulary_size) {}

  [[nodiscard]] std::unique_ptr<LogitsRule> MakeRule() const override {
    return std::make_unique<GrammarRule>(grammar_, vocabulary_size_);
  }

 private:
  const xgrammar::CompiledGrammar grammar_;
  const int32_t vocabulary_size_;
};

std::string CacheKey(const GuideSpec& guide) { return std::to_string(static_cast<int>(guide.kind)) + guide.text; }

// One line, not endless: the library's messages may quote the guide.
std::string ErrorLine(std::string message) {
  for (char& character : message) {
    if (character == '\n') character = ' ';
  }
  if (message.size() > kMaxErrorBytes) message = message.substr(0, kMaxErrorBytes) + "...";
  return message;
}

Status Refused(const std::string& why) { return Status::InvalidArgument("guided_decoding_guide: " + ErrorLine(why)); }

// JSON comes on one line with a blank after each comma and colon. Were any blanks allowed, a small model would now and
// then write them for ever.
xgrammar::CompiledGrammar CompileWith(xgrammar::GrammarCompiler& compiler, const GuideSpec& guide) {
  if (guide.kind == GuideSpec::Kind::kRegex) return compiler.CompileRegex(guide.text);
  const std::string& schema = guide.kind == GuideSpec::Kind::kJson ? kAnyObject : guide.text;
  return compiler.CompileJSONSchema(schema, /*any_whitespace=*/false);
}

}  // namespace

// The least recently used go first when the bytes are too many.
class GuideCompiler::Cache {
 public:
  explicit Cache(size_t max_bytes) : max_bytes_(max_bytes) {}

  std::shared_ptr<const Grammar> Find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return entries_.front().grammar;
  }

  void Add(const std::string& key, std::shared_ptr<const Grammar> grammar, size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes > max_bytes_ || index_.contains(key)) return;
    entries_.push_front({key, std::move(grammar), bytes});
    index_[key] = entries_.begin();
    used_bytes_ += bytes;
    while (used_bytes_ > max_bytes_) {
      used_bytes_ -= entries_.back().bytes;
      index_.erase(entries_.back().key);
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
    size_t bytes = 0;
  };
  const size_t max_bytes_;
  std::mutex mutex_;
  size_t used_bytes_ = 0;
  std::list<Entry> entries_;  // Most recently used first.
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

// The library's compiler with one thread, the caller's, so that an exception on the way reaches us, and without its
// cache, which keeps errors too.
struct GuideCompiler::Backend {
  explicit Backend(const xgrammar::TokenizerInfo& tokenizer) : compiler(tokenizer, 1, false) {}
  xgrammar::GrammarCompiler compiler;
};

GuideCompiler::GuideCompiler(GuideCompilerOptions options)
    : options_(std::move(options)), cache_(std::make_unique<Cache>(options_.cache_bytes)) {}

GuideCompiler::~GuideCompiler() = default;

std::shared_ptr<const Grammar> GuideCompiler::Find(const GuideSpec& guide) const {
  return cache_->Find(CacheKey(guide));
}

Status GuideCompiler::LoadBackend() {
  if (backend_ != nullptr) return Status::Ok();
  if (options_.tokenizer_path.empty() || options_.eos_token_ids.empty()) {
    return Status::InvalidArgument(std::string("guided_decoding_guide_type: the model has no ") +
                                   (options_.tokenizer_path.empty() ? "tokenizer" : "end token") +
                                   ", so it can follow no guide");
  }
  Vocabulary vocabulary;
  Status status = ReadVocabulary(options_.tokenizer_path, options_.vocabulary_size, &vocabulary);
  if (status.code() == ErrorCode::kInvalidArgument) {
    return Status::InvalidArgument("guided_decoding_guide_type: " + status.message());
  }
  if (!status.ok()) return status;
  const auto type = vocabulary.encoding == TokenEncoding::kByteLevel ? xgrammar::VocabType::BYTE_LEVEL
                                                                     : xgrammar::VocabType::BYTE_FALLBACK;
  backend_ = std::make_unique<Backend>(
      xgrammar::TokenizerInfo(vocabulary.tokens, type, options_.vocabulary_size, options_.eos_token_ids));
  return Status::Ok();
}

Status GuideCompiler::CompileNew(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar, size_t* bytes) {
  GuideSpec checked;
  if (Status status = CheckGuide(guide, &checked); !status.ok()) return Refused(status.message());
  if (Status status = LoadBackend(); !status.ok()) return status;
  const GuideWorkLimit limit(options_.compile_limit);
  const xgrammar::CompiledGrammar compiled = CompileWith(backend_->compiler, checked);
  // A grammar without any text, such as one that refers only to itself, would fail at its first token.
  std::vector<float> logits(static_cast<size_t>(options_.vocabulary_size), 0.0F);
  GrammarRule(compiled, options_.vocabulary_size).Apply(0, logits);
  if (std::none_of(logits.begin(), logits.end(), [](float logit) { return logit == 0.0F; })) {
    return Refused("no text fits it");
  }
  *bytes = compiled.MemorySizeBytes();
  *grammar = std::make_shared<CompiledGuide>(compiled, options_.vocabulary_size);
  return Status::Ok();
}

Status GuideCompiler::Compile(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar) try {
  *grammar = Find(guide);
  if (*grammar != nullptr) return Status::Ok();
  const std::lock_guard lock(mutex_);
  size_t bytes = 0;
  const Status status = CompileNew(guide, grammar, &bytes);
  if (status.ok()) cache_->Add(CacheKey(guide), *grammar, bytes);
  return status;
} catch (const std::bad_alloc&) {
  return Status::ResourceExhausted("guided_decoding_guide: no memory to compile it");
} catch (const std::exception& error) {
  return Refused(error.what());
}

}  // namespace naiad
