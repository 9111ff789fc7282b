// What must hold of the block pool after every step, checked on a copy of its state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace naiad {

// The blocks of one sequence at one moment.
struct SequenceBlocks {
  std::string owner;             // Name for messages, for instance the request id.
  int32_t cached_positions = 0;  // Tokens of the sequence that are in the cache.
  std::vector<int32_t> blocks;   // In order of position.
};

struct CacheSnapshot {
  int32_t num_blocks = 0;
  int32_t block_tokens = 0;
  std::vector<int32_t> free_blocks;
  std::vector<SequenceBlocks> sequences;
};

// One sentence for each violation; none if all is well. Checked: every block is in the pool's range, and exactly once
// either free or owned; each sequence has exactly the blocks that its cached positions take.
[[nodiscard]] std::vector<std::string> FindCacheViolations(const CacheSnapshot& snapshot);

}  // namespace naiad
