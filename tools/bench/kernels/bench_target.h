// What the operations of `orrery bench kernels` are measured on: kernels, their device and its clock, and beside them the
// ceilings of the device and a peer. The operations (cases.h) are the same for all targets.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<BenchTarget> target, MakeCpuTarget({.num_threads = 2}));   // or MakeCudaTarget
//   ASSIGN_OR_RETURN(double seconds, target->SecondsPerCall([&] { target->kernels().Add(y, x); }, absl::Milliseconds(20)));
//
// Threads: one owner. Errors: those of the device; its memory's are RESOURCE_EXHAUSTED.
#ifndef ORRERY_TOOLS_BENCH_KERNELS_BENCH_TARGET_H_
#define ORRERY_TOOLS_BENCH_KERNELS_BENCH_TARGET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/dtypes.h"
#include "base/status.h"
#include "device/device.h"
#include "kernels/kernels.h"
#include "tools/bench/kernels/roofline.h"

namespace orrery {

// What a processor could multiply for a weight of some type: the compute ceiling, and what the peer multiplies. (What our
// product multiplies may be wider.)
enum class Operands { kBf16, kFp8 };
inline Operands OperandsOf(DType dtype) {
  return dtype == DType::kFp8E4m3 ? Operands::kFp8 : Operands::kBf16;
}

// The peer's product: rows [num_rows, num_inputs] times a weight [num_outputs, num_inputs], both noise.
class PeerProduct {
 public:
  struct Shape {
    int num_rows = 0;
    int num_inputs = 0;
    int num_outputs = 0;
    int num_copies = 1;  // of the weight, each in memory of its own
    Operands operands = Operands::kBf16;
  };
  virtual ~PeerProduct() = default;
  // Each call multiplies with the next copy. It may only queue the work, as kernels do.
  virtual absl::Status Run() = 0;
};

struct Definition {
  std::string name;
  std::string text;
};

// As reports say it.
struct TargetFacts {
  std::string device;  // "AMD EPYC, 2 cores, last-level cache 32 MiB, load average 0.4, 2 threads"
  std::string memory_ceiling;   // what it does: "read"
  std::string compute_ceiling;  // likewise: "VDPBF16PS"
  std::string peer;             // "oneDNN"; empty: there is none
  std::string peer_version;     // "oneDNN 2.6.3"
  int64_t cache_bytes = 0;      // the last cache before memory
  int64_t working_set_bytes = 0;
  std::vector<Definition> definitions;  // of what only this target has
};

struct NamedCeilings {
  std::string name;  // "2 threads", "fp8"
  Ceilings ceilings = {};
};

class BenchTarget {
 public:
  virtual ~BenchTarget() = default;

  virtual const TargetFacts& facts() const = 0;
  // What is unusual about ceilings or peer, as far as it is known by now; or empty.
  virtual std::string note() const = 0;

  virtual Kernels& kernels() = 0;
  virtual Device& device() = 0;
  virtual Stream& stream() = 0;

  // Of calls one after the other, one at least, until so much time is over.
  virtual absl::StatusOr<double> SecondsPerCall(const std::function<void()>& run,
                                                absl::Duration enough) = 0;
  // Samples of the ceilings for work on these operands, until `enough` is over for each. Compute is 0, not known, if it
  // was not asked for.
  virtual absl::StatusOr<Ceilings> MeasureCeilings(Operands operands, bool with_compute,
                                                   absl::Duration enough) = 0;
  // One short sample of everything that there is, always in the same order.
  virtual absl::StatusOr<std::vector<NamedCeilings>> SampleCeilings() = 0;
  // Null where there is no peer.
  virtual absl::StatusOr<std::unique_ptr<PeerProduct>> MakePeer(
      const PeerProduct::Shape& shape) = 0;
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_KERNELS_BENCH_TARGET_H_
