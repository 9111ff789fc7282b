#include "cache/block_pool.h"

#include <algorithm>
#include <utility>

namespace naiad {

BlockReservation::BlockReservation(BlockPool* pool, std::vector<int32_t> blocks)
    : pool_(pool), blocks_(std::move(blocks)) {}

BlockReservation::BlockReservation(BlockReservation&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), blocks_(std::exchange(other.blocks_, {})) {}

BlockReservation& BlockReservation::operator=(BlockReservation&& other) noexcept {
  if (this == &other) return *this;
  Free();
  pool_ = std::exchange(other.pool_, nullptr);
  blocks_ = std::exchange(other.blocks_, {});
  return *this;
}

BlockReservation::~BlockReservation() { Free(); }

void BlockReservation::Free() {
  if (pool_ != nullptr) pool_->Free(blocks_);
  pool_ = nullptr;
  blocks_.clear();
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

BlockPool::BlockPool(int32_t num_blocks) : num_blocks_(std::max(num_blocks, 0)) {
  free_.reserve(static_cast<size_t>(num_blocks_));
  for (int32_t block = num_blocks_ - 1; block >= 0; --block) free_.push_back(block);
}

std::optional<BlockReservation> BlockPool::Reserve(int32_t count) {
  if (count < 0 || count > free_count()) return std::nullopt;
  if (count == 0) return BlockReservation();
  std::vector<int32_t> blocks(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - static_cast<size_t>(count));
  return BlockReservation(this, std::move(blocks));
}

// Never allocates: free_ was given room for every block at construction.
void BlockPool::Free(std::span<const int32_t> blocks) { free_.insert(free_.end(), blocks.rbegin(), blocks.rend()); }

}  // namespace naiad
