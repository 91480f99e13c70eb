#include "services/expert/bit_flips.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/rng.h"

namespace orrery {

void BitFlips::operator()(absl::Span<std::byte> result) {
  const auto draw = [&](uint32_t number) {
    return UniformDraw({.seed = seed_, .position = num_results_, .draw = number});
  };
  ++num_results_;
  if (draw(0) * one_in_ >= 1.0 || result.empty()) return;
  const auto bit = static_cast<size_t>(draw(1) * static_cast<double>(result.size() * 8));
  result[bit / 8] ^= std::byte{1} << (bit % 8);
}

absl::StatusOr<std::optional<BitFlips>> ParseBitFlips(const std::string& text) {
  if (text.empty()) return std::nullopt;
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  int one_in = 0;
  uint64_t seed = 0;
  const bool has_seed = text.find(':') != std::string::npos;
  if (!absl::SimpleAtoi(parts.first, &one_in) || one_in < 1 ||
      (has_seed && !absl::SimpleAtoi(parts.second, &seed))) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text,
                     "\" is no share of results to spoil: it must be N or N:SEED, N at "
                     "least 1"));
  }
  return BitFlips(one_in, seed);
}

}  // namespace orrery
