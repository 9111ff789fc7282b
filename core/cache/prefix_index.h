// Which full block holds which tokens after which history.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace naiad {

// A full block is known by its tokens and by the block before it, whose own entry stands for all of the history before.
// So a chain of entries is a prefix, compared token by token: two histories are never mistaken for each other, as they
// could be with hashes alone. An entry must not outlive that of the block before it; the pool sees to that.
// Engine thread only.
class PrefixIndex {
 public:
  // The block before the first one.
  static constexpr int32_t kNoBlock = -1;

  PrefixIndex(int32_t num_blocks, int32_t block_tokens);

  // The block that holds `tokens` (block_tokens of them) right after `previous`.
  [[nodiscard]] std::optional<int32_t> Find(int32_t previous, std::span<const int32_t> tokens) const;
  // `block` has no entry yet, and nor have these tokens after `previous`.
  void Insert(int32_t block, int32_t previous, std::span<const int32_t> tokens);
  // No effect without an entry.
  void Erase(int32_t block);

  [[nodiscard]] bool Contains(int32_t block) const { return entries_[static_cast<size_t>(block)].is_present; }
  // The block before `block`, which has an entry.
  [[nodiscard]] int32_t previous(int32_t block) const { return entries_[static_cast<size_t>(block)].previous; }

 private:
  struct Entry {
    bool is_present = false;
    int32_t previous = kNoBlock;
    uint64_t hash = 0;
  };

  [[nodiscard]] std::span<int32_t> TokensOf(int32_t block);
  [[nodiscard]] std::span<const int32_t> TokensOf(int32_t block) const;

  const size_t block_tokens_;
  std::vector<Entry> entries_;   // One a block.
  std::vector<int32_t> tokens_;  // [num_blocks, block_tokens]
  std::unordered_multimap<uint64_t, int32_t> blocks_by_hash_;
};

}  // namespace naiad
