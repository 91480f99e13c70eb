#include "tools/bench/kernels/kernel_figures.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace orrery {
namespace {

template <typename ValueOf>
Spread SpreadOver(const std::vector<KernelRound>& rounds, const ValueOf& value_of) {
  std::vector<double> values;
  for (const KernelRound& round : rounds) values.push_back(value_of(round));
  return SpreadOf(std::move(values));
}

}  // namespace

std::string KernelCase::name() const { return absl::StrCat(operation, "/", format, "/", num_rows); }

Spread SpreadOf(std::vector<double> values) {
  ORRERY_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  return {.median = values[values.size() / 2], .min = values.front(), .max = values.back()};
}

KernelFigures Summarize(const KernelCase& what, const Work& work,
                        const std::vector<KernelRound>& rounds) {
  KernelFigures figures;
  figures.what = what;
  figures.work = work;
  figures.num_rounds = static_cast<int>(rounds.size());
  figures.seconds = SpreadOver(rounds, [](const KernelRound& round) { return round.seconds; });
  figures.bytes_per_s = work.bytes / figures.seconds.median;
  figures.flops_per_s = work.flops / figures.seconds.median;
  const auto bytes_per_s = [](const KernelRound& round) { return round.ceilings.bytes_per_s; };
  const auto flops_per_s = [](const KernelRound& round) { return round.ceilings.flops_per_s; };
  figures.ceilings = {.bytes_per_s = SpreadOver(rounds, bytes_per_s).median,
                      .flops_per_s = SpreadOver(rounds, flops_per_s).median};
  figures.bound = BindingCeiling(work, figures.ceilings);
  figures.share = SpreadOver(rounds, [&](const KernelRound& round) {
    return LeastSeconds(work, round.ceilings) / round.seconds;
  });
  if (rounds.front().peer_seconds.has_value()) {
    figures.peer_seconds =
        SpreadOver(rounds, [](const KernelRound& round) { return *round.peer_seconds; });
    figures.peer_ratio = SpreadOver(
        rounds, [](const KernelRound& round) { return *round.peer_seconds / round.seconds; });
  }
  return figures;
}

}  // namespace orrery
