// The pool of KV-cache blocks: which block is free, who holds the others, and which full blocks can be found again by
// their tokens. The memory behind them belongs to the runner.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cache/prefix_index.h"

namespace naiad {

class BlockPool;

// Blocks that `positions` cached tokens take. The only place where this is computed.
[[nodiscard]] constexpr int32_t BlocksForPositions(int32_t positions, int32_t block_tokens) {
  return positions / block_tokens + (positions % block_tokens == 0 ? 0 : 1);
}

// Holds blocks of a pool, alone or together with others. Lets go of them when destroyed, unless a BlockTable took them
// over. Move-only; must not outlive its pool.
class BlockReservation {
 public:
  BlockReservation() = default;
  BlockReservation(BlockReservation&& other) noexcept;
  BlockReservation& operator=(BlockReservation&& other) noexcept;
  BlockReservation(const BlockReservation&) = delete;
  BlockReservation& operator=(const BlockReservation&) = delete;
  ~BlockReservation();

  [[nodiscard]] std::span<const int32_t> blocks() const { return blocks_; }
  // Splits off the first `count` blocks, at most all.
  [[nodiscard]] BlockReservation TakeFront(size_t count);

 private:
  friend class BlockPool;
  friend class BlockTable;
  BlockReservation(BlockPool* pool, std::vector<int32_t> blocks);
  void Release();

  BlockPool* pool_ = nullptr;
  std::vector<int32_t> blocks_;
};

// The blocks of one sequence in order of position: entry i holds positions i*block_tokens .. (i+1)*block_tokens-1.
// Lets go of them when destroyed. Move-only; must not outlive its pool.
class BlockTable {
 public:
  // Takes over the blocks of `reservation`, which must be of the same pool, behind those already here.
  void Append(BlockReservation reservation);
  // Puts the one block of `reservation` in place of entry `index` and lets go of the old one.
  void Replace(int32_t index, BlockReservation reservation);
  // Lets go of all blocks now.
  void Clear() { owned_ = {}; }

  [[nodiscard]] std::span<const int32_t> blocks() const { return owned_.blocks(); }
  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(owned_.blocks().size()); }

 private:
  BlockReservation owned_;
};

// A block is free, held by one or more sequences, or cached: held by nobody, but full and in the prefix index. Cached
// blocks are taken, the one let go of longest ago first, when no free one is left. A sequence lets go of its blocks
// from the last to the first, and whoever holds a block holds those before it; so a cached block is always taken before
// the one that its entry in the index follows. Not thread-safe: the engine thread owns it.
class BlockPool {
 public:
  // Blocks are numbered 0 .. num_blocks-1; a negative number counts as 0.
  BlockPool(int32_t num_blocks, int32_t block_tokens);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // Takes `count` blocks that nobody holds, or none and returns nothing if there are fewer.
  [[nodiscard]] std::optional<BlockReservation> Reserve(int32_t count);
  // One more holder for each of `blocks`, which are held or cached.
  [[nodiscard]] BlockReservation Share(std::span<const int32_t> blocks);

  // The block that holds `tokens` (block_tokens of them) right after block `previous`, or PrefixIndex::kNoBlock.
  [[nodiscard]] std::optional<int32_t> FindCached(int32_t previous, std::span<const int32_t> tokens) const {
    return index_.Find(previous, tokens);
  }
  // Makes the held and full `block` known. `previous` is in the index, or PrefixIndex::kNoBlock. From now on nobody may
  // write to the block.
  void Remember(int32_t block, int32_t previous, std::span<const int32_t> tokens) {
    index_.Insert(block, previous, tokens);
  }
  [[nodiscard]] const PrefixIndex& index() const { return index_; }

  [[nodiscard]] int32_t holders(int32_t block) const { return nodes_[static_cast<size_t>(block)].holders; }
  [[nodiscard]] int32_t num_blocks() const { return static_cast<int32_t>(nodes_.size()); }
  [[nodiscard]] int32_t block_tokens() const { return block_tokens_; }
  [[nodiscard]] int32_t free_count() const { return static_cast<int32_t>(free_.size()); }
  [[nodiscard]] int32_t cached_count() const { return cached_count_; }
  [[nodiscard]] int32_t available_count() const { return free_count() + cached_count_; }
  [[nodiscard]] int32_t used_count() const { return num_blocks() - available_count(); }
  [[nodiscard]] std::span<const int32_t> free_blocks() const { return free_; }
  // From the one let go of longest ago to the latest.
  [[nodiscard]] std::vector<int32_t> cached_blocks() const;

 private:
  friend class BlockReservation;
  friend class BlockTable;

  // Cached blocks are a list through their nodes.
  struct Node {
    int32_t holders = 0;
    int32_t newer = PrefixIndex::kNoBlock;
    int32_t older = PrefixIndex::kNoBlock;
  };
  Node& NodeOf(int32_t block) { return nodes_[static_cast<size_t>(block)]; }
  void Release(std::span<const int32_t> blocks);
  void ReleaseOne(int32_t block);
  void AppendNewest(int32_t block);
  void Unlink(int32_t block);
  int32_t TakeOne();

  const int32_t block_tokens_;
  std::vector<Node> nodes_;
  std::vector<int32_t> free_;  // Used as a stack: the block freed last is likely still in the processor's cache.
  int32_t oldest_ = PrefixIndex::kNoBlock;
  int32_t newest_ = PrefixIndex::kNoBlock;
  int32_t cached_count_ = 0;
  PrefixIndex index_;
};

}  // namespace naiad
