// Which KV block holds what: who uses it, and which prefix it knows. Ids only; the bytes are in
// kv_cache.h.
//
//   BlockList blocks;
//   int cached = pool.Match(salt, ids, blocks);            // shares the longest known prefix
//   if (!pool.Reserve(num_tokens, blocks)) ...             // full: nothing was taken
//   ... compute positions up to num_computed ...
//   pool.Publish(salt, ids, num_computed, blocks);         // full blocks can be found from now on
//   pool.Release(blocks);
//
//   free --Reserve--> used --Release--> free            (never published)
//                      | ^--Match--+
//                      +--Release--> cached --evicted by Reserve, least recently used first--> used
//
// A full block never changes once it is published; users count references. A block is found by a keyed
// 128-bit hash over the chain of blocks before it, the salt, and its ids; on a hit the ids are
// compared too, and so is the chain, so that a collision is a miss and never a wrong answer. Different
// salts never meet.
//
// Bounded by num_blocks. Threads: belongs to the engine's loop.
#ifndef ORRERY_SERVICES_ATTENTION_BLOCK_POOL_H_
#define ORRERY_SERVICES_ATTENTION_BLOCK_POOL_H_

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace orrery {

struct BlockPoolOptions {
  int num_blocks = 0;
  int block_tokens = 64;
  bool keep_prefixes = true;  // false: nothing is ever found
  uint64_t hash_key = 0;      // of this process, so that nobody can construct collisions
};

// A place in the tree of known prefixes: the block before it, and everything before that.
struct PrefixChain {
  uint64_t low = 0, high = 0;  // hash of all of it
  uint64_t entry = 0;          // which publication the last block was; 0: the root of a salt
};

// The blocks of one sequence, in order of its positions. Belongs to the sequence; only the pool
// changes it.
struct BlockList {
  std::vector<int32_t> ids;
  int num_known = 0;  // of these from the front: matched or published
  PrefixChain chain;  // up to there
};

// What the cache holds of some ids.
struct PrefixFound {
  int num_tokens = 0;
  int num_used_blocks = 0;  // of its blocks, those in use: the others count as free
};

class BlockPool {
 public:
  explicit BlockPool(const BlockPoolOptions& options);

  // Fills an empty list with the longest known prefix of ids, whole blocks; returns its tokens.
  int Match(std::string_view salt, absl::Span<const int32_t> ids, BlockList& blocks);
  // What Match would find now.
  PrefixFound Peek(std::string_view salt, absl::Span<const int32_t> ids) const;
  // Changes when an answer of Peek may have changed.
  uint64_t version() const { return version_; }

  // Extends the list so that num_tokens fit. False, with nothing changed, when too few blocks are
  // free or cached.
  bool Reserve(int num_tokens, BlockList& blocks);

  // Makes the full blocks below num_computed known. ids are the sequence's, at least num_computed.
  void Publish(std::string_view salt, absl::Span<const int32_t> ids, int num_computed,
               BlockList& blocks);

  // An empty list becomes another owner of the first num_tokens: full blocks are shared, a partial last
  // one gets a block of its own, into which the caller copies `from`.
  struct Copy {
    int32_t from = -1, to = -1;  // -1: nothing to copy
  };
  // Nothing when no block is free for the copy.
  std::optional<Copy> Fork(const BlockList& parent, int num_tokens, BlockList& blocks);

  // Gives all references back and clears the list.
  void Release(BlockList& blocks);

  // No prefix is known any more. Lists that were matched, or published, before are to be released: what they
  // publish later is not found.
  void ForgetAll();

  int num_blocks() const { return options_.num_blocks; }
  // Blocks that Reserve can give, cached ones included.
  int num_free() const { return static_cast<int>(free_.size()) + num_cached(); }
  int num_cached() const { return static_cast<int>(cached_.size()); }
  // References to blocks, each user counted.
  int64_t num_references() const { return num_references_; }
  int64_t num_evictions() const { return num_evictions_; }
  // Of the list, the blocks that nobody else uses.
  int NumOwn(const BlockList& blocks) const;

 private:
  struct Hash {
    uint64_t low = 0, high = 0;
    bool operator==(const Hash&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Hash& hash) {
      return H::combine(std::move(h), hash.low, hash.high);
    }
  };
  struct Block {
    int num_references = 0;
    bool is_known = false;
    Hash hash;                            // if known, this and what follows
    uint64_t entry = 0;                   // of this publication, never used twice
    uint64_t parent_entry = 0;            // 0: first of its sequence
    std::string salt;                     // of a first block
    std::vector<int32_t> ids;             // [block_tokens]
    std::list<int32_t>::iterator cached;  // its place in cached_, while nobody uses it
  };

  PrefixChain Root(std::string_view salt) const;
  Hash HashOf(const PrefixChain& chain, absl::Span<const int32_t> ids) const;
  // The known block behind `chain` with these ids, or -1.
  int32_t Find(std::string_view salt, const PrefixChain& chain, const Hash& hash,
               absl::Span<const int32_t> ids) const;
  // Walks the known blocks of ids; the visitor gets each block's id and the chain up to it.
  template <typename Visitor>
  void Walk(std::string_view salt, absl::Span<const int32_t> ids, Visitor visit) const;
  // The block of that name, if there is one, is known no more.
  void Forget(const Hash& hash);
  int32_t TakeFree();
  void AddReference(int32_t id);

  const BlockPoolOptions options_;
  std::vector<Block> blocks_;
  std::vector<int32_t> free_;  // taken from the back
  std::list<int32_t> cached_;  // least recently used first
  absl::flat_hash_map<Hash, int32_t> known_;
  uint64_t next_entry_ = 1;
  uint64_t version_ = 1;
  int64_t num_references_ = 0;
  int64_t num_evictions_ = 0;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_BLOCK_POOL_H_
