#include "cache/block_pool.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace naiad {

BlockReservation::BlockReservation(BlockPool* pool, std::vector<int32_t> blocks)
    : pool_(pool), blocks_(std::move(blocks)) {}

BlockReservation::BlockReservation(BlockReservation&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), blocks_(std::exchange(other.blocks_, {})) {}

BlockReservation& BlockReservation::operator=(BlockReservation&& other) noexcept {
  if (this == &other) return *this;
  Release();
  pool_ = std::exchange(other.pool_, nullptr);
  blocks_ = std::exchange(other.blocks_, {});
  return *this;
}

BlockReservation::~BlockReservation() { Release(); }

void BlockReservation::Release() {
  if (pool_ != nullptr) pool_->Release(blocks_);
  pool_ = nullptr;
  blocks_.clear();
}

BlockReservation BlockReservation::TakeFront(size_t count) {
  const auto end = blocks_.begin() + static_cast<std::ptrdiff_t>(std::min(count, blocks_.size()));
  BlockReservation front(pool_, {blocks_.begin(), end});
  blocks_.erase(blocks_.begin(), end);
  return front;
}

void BlockTable::Append(BlockReservation reservation) {
  if (reservation.blocks_.empty()) return;
  if (owned_.pool_ == nullptr) {
    owned_ = std::move(reservation);
    return;
  }
  owned_.blocks_.insert(owned_.blocks_.end(), reservation.blocks_.begin(), reservation.blocks_.end());
  reservation.blocks_.clear();
}

void BlockTable::Replace(int32_t index, BlockReservation reservation) {
  std::swap(owned_.blocks_[static_cast<size_t>(index)], reservation.blocks_.front());
}

BlockPool::BlockPool(int32_t num_blocks, int32_t block_tokens)
    : block_tokens_(block_tokens),
      nodes_(static_cast<size_t>(std::max(num_blocks, 0))),
      index_(std::max(num_blocks, 0), block_tokens) {
  free_.reserve(nodes_.size());
  for (int32_t block = this->num_blocks() - 1; block >= 0; --block) free_.push_back(block);
}

std::optional<BlockReservation> BlockPool::Reserve(int32_t count) {
  if (count < 0 || count > available_count()) return std::nullopt;
  if (count == 0) return BlockReservation();
  std::vector<int32_t> blocks;
  blocks.reserve(static_cast<size_t>(count));
  while (std::cmp_less(blocks.size(), count)) blocks.push_back(TakeOne());
  return BlockReservation(this, std::move(blocks));
}

int32_t BlockPool::TakeOne() {
  int32_t block = oldest_;
  if (free_.empty()) {
    Unlink(block);
    index_.Erase(block);
  } else {
    block = free_.back();
    free_.pop_back();
  }
  NodeOf(block).holders = 1;
  return block;
}

BlockReservation BlockPool::Share(std::span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    if (NodeOf(block).holders == 0) Unlink(block);
    ++NodeOf(block).holders;
  }
  return BlockReservation(this, {blocks.begin(), blocks.end()});
}

// Never allocates: free_ was given room for every block at construction.
void BlockPool::Release(std::span<const int32_t> blocks) {
  for (const int32_t block : std::views::reverse(blocks)) ReleaseOne(block);
}

void BlockPool::ReleaseOne(int32_t block) {
  if (--NodeOf(block).holders > 0) return;
  if (index_.Contains(block)) {
    AppendNewest(block);
  } else {
    free_.push_back(block);
  }
}

void BlockPool::AppendNewest(int32_t block) {
  NodeOf(block).newer = PrefixIndex::kNoBlock;
  NodeOf(block).older = newest_;
  (newest_ == PrefixIndex::kNoBlock ? oldest_ : NodeOf(newest_).newer) = block;
  newest_ = block;
  ++cached_count_;
}

void BlockPool::Unlink(int32_t block) {
  const Node node = NodeOf(block);
  (node.older == PrefixIndex::kNoBlock ? oldest_ : NodeOf(node.older).newer) = node.newer;
  (node.newer == PrefixIndex::kNoBlock ? newest_ : NodeOf(node.newer).older) = node.older;
  --cached_count_;
}

std::vector<int32_t> BlockPool::cached_blocks() const {
  std::vector<int32_t> blocks;
  for (int32_t block = oldest_; block != PrefixIndex::kNoBlock; block = nodes_[static_cast<size_t>(block)].newer) {
    blocks.push_back(block);
  }
  return blocks;
}

}  // namespace naiad
