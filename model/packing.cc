#include "model/packing.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "checkpoint/store/store_writer.h"
#include "model/checkpoint_loader.h"
#include "model/store_loader.h"
#include "model/weight_files.h"

namespace orrery {
namespace {

// The threads of one packing, and whose turn it is to write.
class Packing {
 public:
  Packing(const std::vector<WeightRecord>& records, const ModelConfig& config,
          const PackOptions& options, const Checkpoint& checkpoint, StoreWriter& writer)
      : records_(records),
        config_(config),
        options_(options),
        checkpoint_(checkpoint),
        writer_(writer) {
    for (size_t i = 0; i < records.size(); ++i) {
      progress_.total += records[i].num_values();
      if (writer.Has(records[i].key)) {
        progress_.done = progress_.kept += records[i].num_values();
      } else {
        missing_.push_back(i);
      }
    }
  }

  absl::Status Run() {
    std::vector<std::thread> threads;
    for (int i = 0; i < options_.num_threads; ++i) threads.emplace_back([this] { RunThread(); });
    for (std::thread& thread : threads) thread.join();
    return status_;
  }

 private:
  void RunThread() {
    const absl::Status status = PackRecords();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (status_.ok()) status_ = status;
    turn_changed_.notify_all();
  }

  absl::Status PackRecords() {
    ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> kernels, options_.make_kernels());
    CheckpointLoader loader(&checkpoint_, &config_, kernels.get(), options_.device,
                            options_.numerics, &loaded_bytes_);
    while (true) {
      const size_t turn = next_.fetch_add(1);
      if (turn >= missing_.size()) return absl::OkStatus();
      const WeightRecord& record = records_[missing_[turn]];
      std::vector<ItemParts> items;
      std::vector<StoreWriter::Part> parts;
      for (const WeightItem& item : record.items) {
        ASSIGN_OR_RETURN(ItemParts made, ItemParts::Make(item, loader));
        parts.insert(parts.end(), made.parts().begin(), made.parts().end());
        items.push_back(std::move(made));
      }
      if (!Write(turn, record, parts)) return absl::OkStatus();
    }
  }

  // False if something has failed.
  bool Write(size_t turn, const WeightRecord& record, absl::Span<const StoreWriter::Part> parts) {
    std::unique_lock<std::mutex> lock(mutex_);
    turn_changed_.wait(lock, [&] { return turn_ == turn || !status_.ok(); });
    if (!status_.ok()) return false;
    status_ = writer_.Add(record.key, parts);
    ++turn_;
    progress_.done += record.num_values();
    turn_changed_.notify_all();
    if (options_.progress) options_.progress(progress_);
    return status_.ok();
  }

  const std::vector<WeightRecord>& records_;
  const ModelConfig& config_;
  const PackOptions& options_;
  const Checkpoint& checkpoint_;
  StoreWriter& writer_;
  std::vector<size_t> missing_;  // records that are to be made
  std::atomic<size_t> next_ = 0;
  std::atomic<int64_t> loaded_bytes_ = 0;
  std::mutex mutex_;
  std::condition_variable turn_changed_;
  size_t turn_ = 0;        // guarded by mutex_
  absl::Status status_;    // guarded by mutex_
  PackProgress progress_;  // guarded by mutex_
};

}  // namespace

absl::Status PackModel(const std::vector<WeightRecord>& records, const ModelConfig& config,
                       const PackOptions& options) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.model_dir));
  ASSIGN_OR_RETURN(const StoreIdentity identity,
                   ModelIdentity(options.model_dir, checkpoint, options.numerics_id));
  std::map<std::string, int64_t> num_values;
  PackProgress progress;
  for (const WeightRecord& record : records) {
    progress.total += num_values[record.key] = record.num_values();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<StoreWriter> writer,
                   StoreWriter::Open(options.store_dir, identity, [&](const StoreRecord& record) {
                     progress.done = progress.kept += num_values[record.key];
                     if (options.progress) options.progress(progress);
                   }));
  RETURN_IF_ERROR(Packing(records, config, options, checkpoint, *writer).Run());
  ASSIGN_OR_RETURN(const Fingerprint fingerprint,
                   checkpoint.ComputeFingerprint(FingerprintScope::kPresentFiles));
  ASSIGN_OR_RETURN(const StoreIdentity now,
                   ModelIdentity(options.model_dir, checkpoint, options.numerics_id));
  if (now != identity || fingerprint.config_hash != identity.config_hash) {
    return absl::AbortedError(
        absl::StrCat("the files of ", options.model_dir, " changed while they were packed"));
  }
  return writer->Finish(fingerprint.files);
}

}  // namespace orrery
