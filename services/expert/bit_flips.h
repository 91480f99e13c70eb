// For tests: a machine that spoils what it computes, as failing memory or a failing processor does.
//
//   ASSIGN_OR_RETURN(std::optional<BitFlips> flips, ParseBitFlips("1000:7"));
//   if (flips.has_value()) shard->SetHarm(*flips);   // one bit in one of 1,000 results is wrong
//
// Which results and which bits follows from the seed, and from how many results came before. The same row
// asked for again is spoiled another time or not at all.
#ifndef ORRERY_SERVICES_EXPERT_BIT_FLIPS_H_
#define ORRERY_SERVICES_EXPERT_BIT_FLIPS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/types/span.h"
#include "base/status.h"

namespace orrery {

class BitFlips {
 public:
  // one_in at least 1.
  BitFlips(int one_in, uint64_t seed) : one_in_(one_in), seed_(seed) {}
  void operator()(absl::Span<std::byte> result);

 private:
  int one_in_;
  uint64_t seed_;
  uint32_t num_results_ = 0;
};

// "N" or "N:SEED", N at least 1; empty: none. INVALID_ARGUMENT for anything else.
absl::StatusOr<std::optional<BitFlips>> ParseBitFlips(const std::string& text);

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_BIT_FLIPS_H_
