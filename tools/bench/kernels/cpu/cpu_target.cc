#include "tools/bench/kernels/cpu/cpu_target.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tools/bench/kernels/cpu/onednn_matmul.h"
#include "tools/bench/kernels/machine/ceiling_meter.h"
#include "tools/bench/kernels/machine/machine_facts.h"
#include "tools/bench/kernels/synthetic.h"

namespace orrery {
namespace {

// OpenMP's threads spin for some milliseconds when their work is done, and would take the cores from whoever
// is measured next.
constexpr absl::Duration kPeerSettles = absl::Milliseconds(10);

std::string ThreadsText(int num_threads) {
  return absl::StrCat(num_threads, num_threads == 1 ? " thread" : " threads");
}

std::vector<Definition> CpuDefinitions() {
  return {
      {"cold",
       "calls go round the working set, so that what they read is in no cache; results go to one "
       "place"},
      {"GB/s",
       "bytes over the median time: packed weights with scales, the cache, or the rows, read once"},
      {"memory ceiling",
       "every byte once, 8 streams of vector loads per thread, large pages where there are some"},
      {"compute ceiling",
       "the variant's multiply instruction on registers, as many threads as the kernels have"},
      {"peer",
       "oneDNN multiplies bf16 (else see the note) in its own packed layout, also where ours are "
       "fp8, int8 or int4, just as cold, in large pages, by as many threads"}};
}

class CpuTarget : public BenchTarget {
 public:
  explicit CpuTarget(const CpuTargetOptions& options) : num_threads_(options.num_threads) {}

  absl::Status Open(const CpuTargetOptions& options) {
    ASSIGN_OR_RETURN(device_, MakeDevice(Backend::kCpu));
    stream_ = device_->MakeStream();
    ASSIGN_OR_RETURN(kernels_, MakeKernels(Backend::kCpu, options.variant, stream_.get(),
                                           {.num_threads = num_threads_, .cpus = {}}));
    const MachineFacts machine = ReadMachineFacts("/");
    facts_.cache_bytes = machine.last_level_cache_bytes;
    facts_.working_set_bytes = WorkingSetBytes(options.working_set_bytes, machine);
    ASSIGN_OR_RETURN(ceilings_,
                     CeilingMeter::Create(kernels_->variant(), facts_.working_set_bytes));
    facts_.device = absl::StrFormat(
        "%s, %d cores, last-level cache %.0f MiB, load average %.1f, %s", machine.processor,
        machine.num_cores, machine.last_level_cache_bytes / 0x1p20, machine.load_average,
        ThreadsText(num_threads_));
    facts_.memory_ceiling = "read";
    facts_.compute_ceiling = ceilings_->loops().instruction;
    facts_.peer = "oneDNN";
    facts_.peer_version = OneDnnVersion();
    facts_.definitions = CpuDefinitions();
    return absl::OkStatus();
  }

  const TargetFacts& facts() const override { return facts_; }
  std::string note() const override { return note_; }
  Kernels& kernels() override { return *kernels_; }
  Device& device() override { return *device_; }
  Stream& stream() override { return *stream_; }

  absl::StatusOr<double> SecondsPerCall(const std::function<void()>& run,
                                        absl::Duration enough) override {
    const int64_t begin = absl::GetCurrentTimeNanos();
    int64_t elapsed = 0;
    int num_calls = 0;
    do {
      run();
      ++num_calls;
      elapsed = absl::GetCurrentTimeNanos() - begin;
    } while (elapsed < absl::ToInt64Nanoseconds(enough));
    return std::max(static_cast<double>(elapsed) * 1e-9 / num_calls, 1e-9);
  }

  // The same whatever is multiplied: it all becomes what the one instruction takes.
  absl::StatusOr<Ceilings> MeasureCeilings(Operands, bool with_compute,
                                           absl::Duration enough) override {
    if (has_peer_ && num_threads_ > 1) absl::SleepFor(kPeerSettles);
    Ceilings measured;
    measured.bytes_per_s =
        AverageRate(enough, [&] { return ceilings_->ReadBytesPerSecond(num_threads_); });
    if (with_compute) {
      measured.flops_per_s =
          AverageRate(enough, [&] { return ceilings_->MultiplyFlopsPerSecond(num_threads_); });
    }
    return measured;
  }

  // With one thread and with all.
  absl::StatusOr<std::vector<NamedCeilings>> SampleCeilings() override {
    std::vector<NamedCeilings> all = {Sample(1)};
    if (num_threads_ > 1) all.push_back(Sample(num_threads_));
    return all;
  }

  absl::StatusOr<std::unique_ptr<PeerProduct>> MakePeer(const PeerProduct::Shape& shape) override {
    ASSIGN_OR_RETURN(
        std::unique_ptr<OneDnnMatmul> peer,
        OneDnnMatmul::Create(
            shape, num_threads_,
            Bf16Noise(static_cast<size_t>(shape.num_outputs) * shape.num_inputs, /*seed=*/3),
            Bf16Noise(static_cast<size_t>(shape.num_rows) * shape.num_inputs, /*seed=*/4)));
    has_peer_ = true;
    if (!peer->has_bf16()) {
      note_ = "oneDNN multiplies f32, twice the bytes: it has no bf16 product for this processor";
    }
    return peer;
  }

 private:
  NamedCeilings Sample(int num_threads) const {
    return {.name = ThreadsText(num_threads),
            .ceilings = {.bytes_per_s = ceilings_->ReadBytesPerSecond(num_threads),
                         .flops_per_s = ceilings_->MultiplyFlopsPerSecond(num_threads)}};
  }

  const int num_threads_;
  TargetFacts facts_;
  std::string note_;
  bool has_peer_ = false;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<CeilingMeter> ceilings_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BenchTarget>> MakeCpuTarget(const CpuTargetOptions& options) {
  auto target = std::make_unique<CpuTarget>(options);
  RETURN_IF_ERROR(target->Open(options));
  return target;
}

}  // namespace orrery
