// The pool of KV-cache blocks: which block is free and who owns the others. The memory behind them belongs to the
// runner.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace naiad {

class BlockPool;

// Blocks that `positions` cached tokens take. The only place where this is computed.
[[nodiscard]] constexpr int32_t BlocksForPositions(int32_t positions, int32_t block_tokens) {
  return positions / block_tokens + (positions % block_tokens == 0 ? 0 : 1);
}

// Blocks taken from a pool for a step that may still fail. Gives them back when destroyed, unless a BlockTable took
// them over. Move-only; must not outlive its pool.
class BlockReservation {
 public:
  BlockReservation() = default;
  BlockReservation(BlockReservation&& other) noexcept;
  BlockReservation& operator=(BlockReservation&& other) noexcept;
  BlockReservation(const BlockReservation&) = delete;
  BlockReservation& operator=(const BlockReservation&) = delete;
  ~BlockReservation();

  [[nodiscard]] std::span<const int32_t> blocks() const { return blocks_; }

 private:
  friend class BlockPool;
  friend class BlockTable;
  BlockReservation(BlockPool* pool, std::vector<int32_t> blocks);
  void Free();

  BlockPool* pool_ = nullptr;
  std::vector<int32_t> blocks_;
};

// The blocks of one sequence in order of position: entry i holds positions i*block_tokens .. (i+1)*block_tokens-1.
// Gives them back when destroyed. Move-only; must not outlive its pool.
class BlockTable {
 public:
  // Takes over the blocks of `reservation`, which must be of the same pool, behind those already here.
  void Append(BlockReservation reservation);
  // Gives all blocks back now.
  void Clear() { owned_ = {}; }

  [[nodiscard]] std::span<const int32_t> blocks() const { return owned_.blocks(); }
  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(owned_.blocks().size()); }

 private:
  BlockReservation owned_;
};

// Not thread-safe: the engine thread owns it.
class BlockPool {
 public:
  // Blocks are numbered 0 .. num_blocks-1; a negative number counts as 0.
  explicit BlockPool(int32_t num_blocks);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // Takes `count` blocks, or none and returns nothing if fewer are free.
  [[nodiscard]] std::optional<BlockReservation> Reserve(int32_t count);

  [[nodiscard]] int32_t num_blocks() const { return num_blocks_; }
  [[nodiscard]] int32_t free_count() const { return static_cast<int32_t>(free_.size()); }
  [[nodiscard]] int32_t used_count() const { return num_blocks_ - free_count(); }
  [[nodiscard]] std::span<const int32_t> free_blocks() const { return free_; }

 private:
  friend class BlockReservation;
  void Free(std::span<const int32_t> blocks);

  const int32_t num_blocks_;
  std::vector<int32_t> free_;  // Used as a stack: the block freed last is likely still in the processor's cache.
};

}  // namespace naiad
