#include "cache/prefix_index.h"

#include <algorithm>
#include <cstddef>

namespace naiad {
namespace {

// FNV-1a over whole tokens (Fowler, Noll, Vo), finished by a shift so that the low bits depend on all.
uint64_t HashOf(int32_t previous, std::span<const int32_t> tokens) {
  constexpr uint64_t kPrime = 0x100000001b3ULL;
  uint64_t hash = (0xcbf29ce484222325ULL ^ static_cast<uint32_t>(previous)) * kPrime;
  for (const int32_t token : tokens) hash = (hash ^ static_cast<uint32_t>(token)) * kPrime;
  return hash ^ (hash >> 29);
}

}  // namespace

PrefixIndex::PrefixIndex(int32_t num_blocks, int32_t block_tokens)
    : block_tokens_(static_cast<size_t>(block_tokens)),
      entries_(static_cast<size_t>(num_blocks)),
      tokens_(entries_.size() * block_tokens_) {}

std::span<int32_t> PrefixIndex::TokensOf(int32_t block) {
  return std::span(tokens_).subspan(static_cast<size_t>(block) * block_tokens_, block_tokens_);
}

std::span<const int32_t> PrefixIndex::TokensOf(int32_t block) const {
  return std::span(tokens_).subspan(static_cast<size_t>(block) * block_tokens_, block_tokens_);
}

std::optional<int32_t> PrefixIndex::Find(int32_t previous, std::span<const int32_t> tokens) const {
  const auto [begin, end] = blocks_by_hash_.equal_range(HashOf(previous, tokens));
  for (auto candidate = begin; candidate != end; ++candidate) {
    const int32_t block = candidate->second;
    if (this->previous(block) == previous && std::ranges::equal(TokensOf(block), tokens)) return block;
  }
  return std::nullopt;
}

void PrefixIndex::Insert(int32_t block, int32_t previous, std::span<const int32_t> tokens) {
  const uint64_t hash = HashOf(previous, tokens);
  entries_[static_cast<size_t>(block)] = {.is_present = true, .previous = previous, .hash = hash};
  std::ranges::copy(tokens, TokensOf(block).begin());
  blocks_by_hash_.emplace(hash, block);
}

void PrefixIndex::Erase(int32_t block) {
  Entry& entry = entries_[static_cast<size_t>(block)];
  if (!entry.is_present) return;
  entry.is_present = false;
  const auto [begin, end] = blocks_by_hash_.equal_range(entry.hash);
  blocks_by_hash_.erase(std::find_if(begin, end, [block](const auto& item) { return item.second == block; }));
}

}  // namespace naiad
