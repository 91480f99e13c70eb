#include "tools/bench/loading/loading_bench.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/aligned_memory.h"
#include "checkpoint/store/record_hash.h"
#include "checkpoint/store/store_file.h"
#include "model/moe_layers.h"
#include "model/weight_files.h"
#include "model/weight_list.h"
#include "placement/placement.h"
#include "services/attention/model.h"
#include "services/expert/shard.h"

namespace orrery {
namespace {

// What a member takes beside its weights, about.
constexpr int64_t kScratchBytes = int64_t{512} << 20;

// A member as this benchmark sees it.
struct Member {
  std::string what;
  std::vector<std::string> records;  // that it loads
  std::function<absl::StatusOr<std::shared_ptr<void>>()> load;
};

// Numbers of one member in each round.
struct Rounds {
  std::vector<double> seconds, load, buffered, direct, memory, ratio;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::StatusOr<double> TimeOf(const std::function<absl::Status()>& body) {
  const absl::Time begin = absl::Now();
  RETURN_IF_ERROR(body());
  return absl::ToDoubleSeconds(absl::Now() - begin);
}

// Of the records, in the order of the file.
std::vector<const StoreRecord*> Find(const PackedStore& store,
                                     const std::vector<std::string>& keys) {
  std::vector<const StoreRecord*> records;
  for (const std::string& key : keys) {
    if (const StoreRecord* const record = store.Find(key)) records.push_back(record);
  }
  std::sort(records.begin(), records.end(),
            [](const StoreRecord* a, const StoreRecord* b) { return a->offset < b->offset; });
  return records;
}

absl::Status ReadSequentially(const StoreFile& file,
                              const std::vector<const StoreRecord*>& records) {
  const AlignedArray<std::byte> buffer =
      TryAllocateAligned<std::byte>(kChunkBytes, kRecordAlignment);
  if (buffer == nullptr) return absl::ResourceExhaustedError("no memory for a buffer");
  for (const StoreRecord* const record : records) {
    for (int64_t begin = 0; begin < record->num_bytes; begin += kChunkBytes) {
      const size_t num_bytes = std::min(kChunkBytes, record->num_bytes - begin);
      RETURN_IF_ERROR(file.ReadAt(record->offset + begin, {buffer.get(), num_bytes}));
    }
  }
  return absl::OkStatus();
}

// Takes as much memory as will be loaded, touches it, and gives it back: a virtual machine returns
// large free pages to its host, and gets them again slower than any disk. Bytes per second.
absl::StatusOr<double> WarmMemoryUp(int64_t num_bytes) {
  constexpr int64_t kPage = 4096;
  const AlignedArray<std::byte> memory = TryAllocateAligned<std::byte>(num_bytes);
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", num_bytes, " bytes"));
  }
  const absl::Time begin = absl::Now();
  volatile std::byte* const bytes = memory.get();
  for (int64_t i = 0; i < num_bytes; i += kPage) bytes[i] = std::byte{1};
  return static_cast<double>(num_bytes) / absl::ToDoubleSeconds(absl::Now() - begin);
}

absl::Status MeasureRound(const PackedStore& store, const Member& member, int64_t num_bytes,
                          Rounds& rounds) {
  const std::vector<const StoreRecord*> records = Find(store, member.records);
  ASSIGN_OR_RETURN(const StoreFile buffered,
                   StoreFile::Open(store.records_path(), StoreFile::Mode::kBuffered));
  ASSIGN_OR_RETURN(const StoreFile direct,
                   StoreFile::Open(store.records_path(), StoreFile::Mode::kDirect));
  const auto rate = [&](double seconds) { return static_cast<double>(num_bytes) / seconds; };
  buffered.DropCache();
  ASSIGN_OR_RETURN(const double buffered_seconds,
                   TimeOf([&] { return ReadSequentially(buffered, records); }));
  buffered.DropCache();
  ASSIGN_OR_RETURN(const double direct_seconds,
                   TimeOf([&] { return ReadSequentially(direct, records); }));
  buffered.DropCache();
  ASSIGN_OR_RETURN(const double memory, WarmMemoryUp(num_bytes + kScratchBytes));
  rounds.memory.push_back(memory);
  std::shared_ptr<void> loaded;  // given back after the time is taken
  ASSIGN_OR_RETURN(const double load_seconds, TimeOf([&]() -> absl::Status {
                     ASSIGN_OR_RETURN(loaded, member.load());
                     return absl::OkStatus();
                   }));
  loaded.reset();
  buffered.DropCache();
  rounds.buffered.push_back(rate(buffered_seconds));
  rounds.direct.push_back(rate(direct_seconds));
  rounds.seconds.push_back(load_seconds);
  rounds.load.push_back(rate(load_seconds));
  rounds.ratio.push_back(rate(load_seconds) /
                         std::max(rate(buffered_seconds), rate(direct_seconds)));
  return absl::OkStatus();
}

absl::StatusOr<LoadingFigures> Measure(const PackedStore& store, const Member& member,
                                       int num_rounds) {
  LoadingFigures figures = {.what = member.what};
  for (const StoreRecord* const record : Find(store, member.records)) {
    figures.num_bytes += record->num_bytes;
  }
  Rounds rounds;
  for (int i = 0; i < num_rounds; ++i) {
    RETURN_IF_ERROR(MeasureRound(store, member, figures.num_bytes, rounds));
  }
  figures.seconds = Median(rounds.seconds);
  figures.load_rate = Median(rounds.load);
  figures.sequential_buffered = Median(rounds.buffered);
  figures.sequential_direct = Median(rounds.direct);
  figures.memory = Median(rounds.memory);
  figures.ratio = Median(rounds.ratio);
  return figures;
}

}  // namespace

absl::StatusOr<std::vector<LoadingFigures>> MeasureLoading(const LoadingOptions& options) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(options.model_dir));
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeDevice(options.backend));
  const std::unique_ptr<Stream> stream = device->MakeStream();
  ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> kernels,
                   MakeKernels(options.backend, options.cpu_variant, stream.get()));
  const std::string numerics_id = NumericsId(options.numerics, kernels->family());
  const auto open = [&] { return WeightFiles::Open(options.model_dir, numerics_id); };
  ASSIGN_OR_RETURN(const WeightFiles files, open());
  if (files.store() == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("there is no packed store ", PackedStoreDir(options.model_dir, numerics_id),
                     "; run `orrery pack` first"));
  }
  std::atomic<int64_t> loaded_bytes = 0;
  std::vector<Member> members;
  if (config.num_experts > 0) {
    const ExpertRange range =
        DefaultPlacement({.num_experts = config.num_experts, .num_shards = options.num_shards})[0];
    Member shard;
    shard.what = absl::StrCat("shard 0 of ", options.num_shards);
    for (const int layer : MoeLayers(config, /*with_mtp=*/false)) {
      for (int expert = range.begin; expert < range.end; ++expert) {
        shard.records.push_back(ExpertRecord(layer, expert));
      }
    }
    shard.load = [&, range]() -> absl::StatusOr<std::shared_ptr<void>> {
      ASSIGN_OR_RETURN(const WeightFiles opened, open());
      ASSIGN_OR_RETURN(std::unique_ptr<Shard> loaded, Shard::Load({.files = &opened,
                                                                   .config = config,
                                                                   .numerics = options.numerics,
                                                                   .kernels = kernels.get(),
                                                                   .device = device.get(),
                                                                   .stream = stream.get()},
                                                                  range, &loaded_bytes));
      return std::shared_ptr<Shard>(std::move(loaded));
    };
    members.push_back(std::move(shard));
  }
  Member rank;
  rank.what = "rank";
  rank.records = RankRecords(config, /*with_mtp=*/false);
  rank.load = [&]() -> absl::StatusOr<std::shared_ptr<void>> {
    ASSIGN_OR_RETURN(const WeightFiles opened, open());
    ASSIGN_OR_RETURN(Model model, LoadModel(opened, config,
                                            {.numerics = options.numerics, .max_positions = 4096},
                                            kernels.get(), device.get(), &loaded_bytes));
    return std::make_shared<Model>(std::move(model));
  };
  members.push_back(std::move(rank));
  std::vector<LoadingFigures> all;
  for (const Member& member : members) {
    ASSIGN_OR_RETURN(LoadingFigures figures, Measure(*files.store(), member, options.num_rounds));
    all.push_back(std::move(figures));
  }
  return all;
}

}  // namespace orrery
