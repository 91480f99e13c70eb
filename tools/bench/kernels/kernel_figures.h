// What the rounds of one measured operation come to.
//
//   KernelFigures figures = Summarize(what, work, rounds);
//   figures.share.median      // 0.82: the ceiling's time is 82 % of ours
//
// Each round measures everything once, one after another: the ceilings, ours, the peer. Ratios are taken within a
// round and then their median, so that a machine that is slower for a while is slower for all of them.
// Pure functions.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_KERNEL_FIGURES_H_
#define ORRERY_TOOLS_BENCH_KERNELS_KERNEL_FIGURES_H_

#include <optional>
#include <string>
#include <vector>

#include "tools/bench/kernels/roofline.h"

namespace orrery {

// Names a measured operation.
struct KernelCase {
  std::string operation;  // "feed_forward"
  std::string format;     // of what is read: "bf16", "fp8", "f32"
  int num_rows = 0;
  std::string shape;  // "2048 > 704 > 2048"

  std::string name() const;  // "feed_forward/fp8/16"
};

struct KernelRound {
  Ceilings ceilings;
  double seconds = 0.0;                     // of one call
  std::optional<double> peer_seconds = {};  // nothing where there is no peer
};

struct Spread {
  double median = 0.0;
  double min = 0.0;
  double max = 0.0;
};
// Of at least one value; the upper median of an even number.
Spread SpreadOf(std::vector<double> values);

struct KernelFigures {
  KernelCase what;
  Work work;
  int num_rounds = 0;
  Spread seconds;
  std::optional<Spread> peer_seconds;
  double bytes_per_s = 0.0;  // at the median
  double flops_per_s = 0.0;
  Ceilings ceilings;  // medians
  Bound bound = Bound::kMemory;
  Spread share;                      // of the binding ceiling
  std::optional<Spread> peer_ratio;  // the peer's time over ours: above 1 we are faster
};

// Of at least one round; either all have a peer or none.
KernelFigures Summarize(const KernelCase& what, const Work& work,
                        const std::vector<KernelRound>& rounds);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_KERNEL_FIGURES_H_
