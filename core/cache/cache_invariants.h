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

// A block that can be found again by its tokens.
struct RememberedBlock {
  int32_t block = 0;
  int32_t previous = 0;  // The block before it; PrefixIndex::kNoBlock = none.
};

struct CacheSnapshot {
  int32_t num_blocks = 0;
  int32_t block_tokens = 0;
  std::vector<int32_t> holders;  // Of each block, as the pool counts them.
  std::vector<int32_t> free_blocks;
  std::vector<int32_t> cached_blocks;  // The one that is taken first, first.
  std::vector<RememberedBlock> remembered;
  std::vector<SequenceBlocks> sequences;
};

// One sentence for each violation; none if all is well. Checked:
//   - every block number is in the pool's range;
//   - a block is on exactly one of: the free list, the list of cached blocks, the tables of sequences (any number of
//     them, each once), and the pool counts as many holders as there are tables;
//   - each sequence has exactly the blocks that its cached positions take;
//   - cached blocks are remembered, free ones are not, and the block before a remembered one is remembered;
//   - a cached block is taken before the one that comes before it.
[[nodiscard]] std::vector<std::string> FindCacheViolations(const CacheSnapshot& snapshot);

}  // namespace naiad
