#include "encoder/packed_texts.h"

#include <numeric>

namespace naiad {

void PackedTexts::Clear() {
  input_ids_.clear();
  position_ids_.clear();
  token_type_ids_.clear();
  cu_seqlens_.assign(1, 0);
}

void PackedTexts::Add(std::span<const int32_t> ids, std::span<const int32_t> token_types) {
  const size_t first = input_ids_.size();
  input_ids_.insert(input_ids_.end(), ids.begin(), ids.end());
  position_ids_.resize(input_ids_.size());
  std::iota(position_ids_.begin() + static_cast<std::ptrdiff_t>(first), position_ids_.end(), int64_t{0});
  if (uses_token_type_ids_) {
    token_type_ids_.insert(token_type_ids_.end(), token_types.begin(), token_types.end());
    token_type_ids_.resize(input_ids_.size(), 0);
  }
  cu_seqlens_.push_back(static_cast<int32_t>(input_ids_.size()));
}

}  // namespace naiad
