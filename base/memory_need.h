// What a process or a device needs of memory at most, as a sum of named parts; and whether that fits.
//
//   MemoryNeed need;
//   need.Add({.name = "weights", .bytes = 3'210'000'000, .smaller_by = "ffn_weights (int8, int4)"});
//   need.Add({.name = "KV cache", .bytes = 940'000'000, .smaller_by = "limits.kv_cache_bytes"});
//   RETURN_IF_ERROR(CheckFits("attention-0", need, {.bytes = budget, .text = "its budget is ..."}));
//
// The parts are worked out before anything is allocated; who holds memory that grows bounds it by what stands
// here.
//
// Errors: RESOURCE_EXHAUSTED, with all parts, the room, and what makes them smaller.
// Threads: any.
#ifndef ORRERY_BASE_MEMORY_NEED_H_
#define ORRERY_BASE_MEMORY_NEED_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace orrery {

struct MemoryPart {
  std::string name;
  size_t bytes = 0;
  std::string detail = {};      // "8192 tokens"
  std::string smaller_by = {};  // which settings make it smaller; empty: none
  // If it can have any multiple of so many bytes, which one setting says: then the error says how much would
  // fit.
  size_t unit_bytes = 0;
};

class MemoryNeed {
 public:
  void Add(MemoryPart part) { parts_.push_back(std::move(part)); }

  size_t total() const;
  const std::vector<MemoryPart>& parts() const { return parts_; }
  // "weights 3.21 GB, KV cache 0.94 GB (16384 tokens), scratch 62.1 MB"
  std::string ToString() const;

 private:
  std::vector<MemoryPart> parts_;
};

struct MemoryRoom {
  size_t bytes = 0;
  std::string text;  // "its budget is 2.00 GB, the limit of its control group"
};

// `who` needs it.
absl::Status CheckFits(const std::string& who, const MemoryNeed& need, const MemoryRoom& room);

// "3.21 GB", "621.3 MB".
std::string MemoryText(size_t num_bytes);

}  // namespace orrery

#endif  // ORRERY_BASE_MEMORY_NEED_H_
