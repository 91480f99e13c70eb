// The paged cache: appending to it, and attention over it.
//
// The positions of a row lie in spans of 1,024 (attention_jobs.h), a span in blocks of 64. A block of threads
// takes some heads of one row through one span, block by block; m starts at -infinity, l and ctx at 0:
//
//   s    = scale * (q . key)                 one sum per score
//   m'   = max(m, max of s)                  c = exp(m - m')         p = exp(s - m')
//   l    = fma(l, c, sum of p)               lane i adds tokens i and i + 32, then SumOfWarp
//   ctx  = ctx * c + p . values              one sum per head and value
//
// and a row of one span is done: out = ctx / l. Of several, in ascending order:
//
//   M    = max of all m                      w = exp(m - M)
//   L    = fma(l, w, L)   C = fma(ctx, w, C)   each from zero        out = C / L
//
// The inner sums in f32: chains of fused multiply-adds from zero, over key dims, or over the tokens seen,
// in order; then ctx = fma(ctx, c, sum).
// In bf16: a chain of mma.sync over key dims in steps of 16, from zero, for the first half of the steps, rounded
// up, and another for the rest; q . key is their sum. ctx * c is rounded, and a chain of mma.sync over
// tokens in steps of 16, with p rounded to bf16, goes on from there.
// In bf16 by wgmma (sm_90a, MLA): one chain of m64n64k16 over key dims from zero; a chain of m64n256k16 over tokens goes
// on from ctx * c. Of the sum of p, lane t of four adds tokens 8 j + 2 t, + 1 for j = 0..7, then meets t ^ 1, then t ^ 2.
//
// A token that the row does not see is never read: it counts as zeros with p = 0, so what lies there
// leaves no trace. How many heads a block of threads takes is a schedule: it changes no bit.

#include <algorithm>
#include <iterator>

#include "base/check.h"
#include "kernels/cuda/attention_bf16.h"
#include "kernels/cuda/attention_f32.h"
#include "kernels/cuda/attention_wgmma.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device_math.h"
#include "kernels/cuda/job_array.h"
#include "kernels/shape_checks.h"

namespace orrery {
namespace {

template <typename Attend>
__global__ void __launch_bounds__(Attend::kThreads, Attend::kResident)
    AttendSpan(const AttendJob* jobs, int num_jobs) {
  const AttendTile tile = TileOfBlock<Attend::kHeads>(JobOfBlock(jobs, num_jobs));
  if (tile.IsEmpty()) return;
  Attend(tile).Run();
}

// One head of one row; a thread has four values at a time.
__global__ void __launch_bounds__(kBlockThreads) CombineSpans(const AttendJob* jobs, int num_jobs) {
  const AttendJob& job = JobOfBlock(jobs, num_jobs);
  const int64_t block = blockIdx.x - job.first_block, row = block / job.num_heads;
  const int head = static_cast<int>(block % job.num_heads);
  const int num_spans = NumSpans(job, job.first_position + row + 1);
  if (num_spans == 1) return;
  float max = -kInfinity;
  for (int span = 0; span < num_spans; ++span)
    max = Larger(PartialOf(job, row, span, head)[0], max);
  float* const out = job.out.row(row) + static_cast<int64_t>(head) * job.value_dim;
  for (int d = 4 * static_cast<int>(threadIdx.x); d < job.value_dim; d += 4 * kBlockThreads) {
    float sum = 0.0f, context[4] = {};
    for (int span = 0; span < num_spans; ++span) {
      const float* const partial = PartialOf(job, row, span, head);
      const float weight = Exp(partial[0] - max);
      sum = fmaf(partial[1], weight, sum);
      const auto four = *reinterpret_cast<const FourFloats*>(partial + kPartialHeader + d);
      for (int i = 0; i < 4; ++i) context[i] = fmaf(four.value[i], weight, context[i]);
    }
    for (int i = 0; i < 4; ++i) {
      if (d + i < job.value_dim) out[d + i] = context[i] / sum;
    }
  }
}

// What the batch of the day has where it stands.
__global__ void PlaceJobs(AttendJob* jobs, int num_jobs, DevicePlaces places) {
  const int index = static_cast<int>(blockIdx.x * kBlockThreads + threadIdx.x);
  if (index >= num_jobs) return;
  const RowPlace place = places.rows[jobs[index].place];
  jobs[index].first_position = place.position;  // of nobody: it ends before every span
  jobs[index].block_ids = places.block_ids + place.first_block_id;
}

__device__ void Append(const float* from, const KvCacheView& cache, const int32_t* block_ids,
                       int64_t position) {
  const int64_t cache_row =
      int64_t{block_ids[position / kKvBlockTokens]} * kKvBlockTokens + position % kKvBlockTokens;
  const int64_t first = cache_row * cache.row_width;
  for (int i = static_cast<int>(threadIdx.x); i < cache.row_width; i += kBlockThreads) {
    if (cache.format == DType::kBf16) {
      reinterpret_cast<uint16_t*>(cache.data)[first + i] = FlushedBf16(from[i]);
    } else {
      reinterpret_cast<float*>(cache.data)[first + i] = from[i];
    }
  }
}

__global__ void AppendRow(ConstMatrix rows, KvCacheView cache, const int32_t* block_ids,
                          int first_position) {
  Append(rows.row(blockIdx.x), cache, block_ids, first_position + int64_t{blockIdx.x});
}

__global__ void AppendPlacedRow(ConstMatrix rows, KvCacheView cache, DevicePlaces places) {
  const RowPlace place = places.rows[blockIdx.x];
  if (place.appends == 0) return;
  Append(rows.row(blockIdx.x), cache, places.block_ids + place.first_block_id, place.position);
}

// A way to run AttendSpan.
struct Schedule {
  void (*kernel)(const AttendJob*, int);
  int num_heads;
  int num_threads;
  size_t (*shared_bytes)(const AttendJob&);
};
template <typename Attend>
constexpr Schedule ScheduleOf() {
  return {AttendSpan<Attend>, Attend::kHeads, Attend::kThreads, Attend::SharedBytes};
}
constexpr int kF32Schedule = 0, kWgmmaSchedule = 1, kFirstMmaSchedule = 2;
constexpr Schedule kSchedules[] = {ScheduleOf<AttendF32>(), ScheduleOf<AttendWgmma>(),
                                   ScheduleOf<AttendBf16<64, 3>>(), ScheduleOf<AttendBf16<32, 3>>(),
                                   ScheduleOf<AttendBf16<16, 2>>()};

AttendJob JobOf(const AttendArgs& args) {
  AttendJob job;
  job.q = args.q;
  job.out = args.out;
  job.num_heads = args.num_heads;
  job.key_dim = args.key_dim;
  job.key_offset = args.key_offset;
  job.value_dim = args.value_dim;
  job.value_offset = args.value_offset;
  job.scale = args.scale;
  job.cache = args.cache.data;
  job.row_width = args.cache.row_width;
  job.begin_position = args.begin_position;
  job.first_position = args.first_position;
  job.num_spans = NumSpans(job, int64_t{args.first_position} + args.q.num_rows);
  return job;
}

int64_t NumPartialFloats(const AttendJob& job) {
  return job.num_spans == 1
             ? 0
             : job.q.num_rows * job.num_spans * job.num_heads * PartialFloats(job.value_dim);
}

}  // namespace

void CudaKernels::AppendKv(ConstMatrix rows, const KvCacheView& cache,
                           absl::Span<const int32_t> block_ids, int first_position) {
  CheckAppendKv(rows, cache, block_ids, first_position);
  staging_.Reserve(block_ids.size() * sizeof(int32_t) + kStagingAlignment);
  Launch("AppendKv", AppendRow, {rows.num_rows, kBlockThreads}, rows, cache,
         staging_.Put(block_ids), first_position);
}

void CudaKernels::AppendKvBatch(ConstMatrix kv, const KvCacheView& cache, const RowPlaces& places) {
  const CudaRowPlaces* const placed = PlacedRows(places, kv);
  if (placed == nullptr) return Kernels::AppendKvBatch(kv, cache, places);
  ORRERY_CHECK(kv.num_cols == cache.row_width)
      << "row of " << kv.num_cols << ", cache row of " << cache.row_width;
  Launch("AppendKv", AppendPlacedRow, {kv.num_rows, kBlockThreads}, kv, cache, placed->on_device());
}

// By mma: the most heads that shared memory holds, unless half of them were not there, or multiprocessors would
// be left without a block.
int CudaKernels::AttendScheduleFor(const AttendArgs& args, const AttendJob& job,
                                   int64_t num_row_spans) const {
  static_assert(std::size(kSchedules) == kNumAttendSchedules);
  if (args.cache.format == DType::kF32) return kF32Schedule;
  if (instructions_ == Instructions::kWgmma && AttendWgmma::Takes(job)) {
    ORRERY_CHECK(reinterpret_cast<uintptr_t>(job.cache) % kPieceBytes == 0)
        << "a cache off a border of " << kPieceBytes << " bytes: " << job.cache;
    return kWgmmaSchedule;
  }
  int choice = kFirstMmaSchedule;
  for (; choice + 1 < kNumAttendSchedules; ++choice) {
    const Schedule& schedule = kSchedules[choice];
    if (job.num_heads > schedule.num_heads / 2 &&
        schedule.shared_bytes(job) <= limits_.shared_bytes &&
        num_row_spans * NumTiles(job, schedule.num_heads) >= limits_.num_multiprocessors) {
      break;
    }
  }
  return choice;
}

void CudaKernels::Attend(absl::Span<const AttendArgs> all) {
  int64_t num_row_spans = 0;
  for (const AttendArgs& args : all) {
    CheckAttend(args);
    if (args.q.num_rows > 0) num_row_spans += args.q.num_rows * JobOf(args).num_spans;
  }
  const auto most_floats = static_cast<int64_t>(limits_.partial_bytes / sizeof(float));
  int64_t num_floats = 0;
  for (const AttendArgs& args : all) {
    for (int64_t row = 0; row < args.q.num_rows;) {
      AttendArgs part = args;
      part.first_position += static_cast<int>(row);
      part.q = args.q.Rows(row, args.q.num_rows - row);
      AttendJob job = JobOf(part);
      const int64_t row_floats = NumPartialFloats(job) / job.q.num_rows;
      if (num_floats > 0 && num_floats + row_floats > most_floats) {
        RunAttendRound(/*placed=*/nullptr);
        num_floats = 0;
      }
      if (row_floats > 0) {
        const int64_t num_fitting = std::max<int64_t>(1, (most_floats - num_floats) / row_floats);
        job.q.num_rows = std::min(job.q.num_rows, num_fitting);
      }
      job.out = args.out.Rows(row, job.q.num_rows);
      planned_attends_.push_back(
          {job, AttendScheduleFor(args, job, num_row_spans), block_ids_.size()});
      // Only those that are walked through.
      const int64_t end = job.first_position + job.q.num_rows;
      block_ids_.insert(block_ids_.end(), args.block_ids.begin(),
                        args.block_ids.begin() + (end + kKvBlockTokens - 1) / kKvBlockTokens);
      num_floats += row_floats * job.q.num_rows;
      row += job.q.num_rows;
    }
  }
  RunAttendRound(/*placed=*/nullptr);
}

// A job for each row, with room for as many spans as the shape has: where rows end is known on the device.
void CudaKernels::AttendBatch(absl::Span<const AttendArgs> heads, const RowPlaces& places) {
  const CudaRowPlaces* const placed = heads.empty() ? nullptr : PlacedRows(places, heads[0].q);
  if (placed == nullptr) return Kernels::AttendBatch(heads, places);
  const int num_rows = placed->shape().num_rows, num_spans = placed->shape().num_cache_spans;
  const int64_t num_row_spans = int64_t{num_rows} * num_spans * std::ssize(heads);
  const auto most_floats = static_cast<int64_t>(limits_.partial_bytes / sizeof(float));
  int64_t num_floats = 0;
  for (const AttendArgs& args : heads) {
    CheckAttendShapes(args);
    for (int row = 0; row < num_rows; ++row) {
      AttendJob job = JobOf(args);
      job.place = row;
      job.q = args.q.Rows(row, 1);
      job.out = args.out.Rows(row, 1);
      job.num_spans = num_spans;
      const int64_t row_floats = NumPartialFloats(job);
      if (num_floats > 0 && num_floats + row_floats > most_floats) {
        RunAttendRound(placed);
        num_floats = 0;
      }
      planned_attends_.push_back({job, AttendScheduleFor(args, job, num_row_spans), 0});
      num_floats += row_floats;
    }
  }
  RunAttendRound(placed);
}

const AttendJob* CudaKernels::PutAttendJobs(const CudaRowPlaces* placed) {
  const AttendJob* const jobs = staging_.Put(absl::MakeConstSpan(attend_jobs_));
  if (placed != nullptr) {
    const auto num_jobs = static_cast<int>(attend_jobs_.size());
    Launch("PlaceJobs", PlaceJobs, {NumUnits(num_jobs, kBlockThreads), kBlockThreads},
           const_cast<AttendJob*>(jobs), num_jobs, placed->on_device());
  }
  return jobs;
}

void CudaKernels::RunAttendRound(const CudaRowPlaces* placed) {
  staging_.Reserve(block_ids_.size() * sizeof(int32_t) +
                   2 * planned_attends_.size() * sizeof(AttendJob) +
                   (kNumAttendSchedules + 2) * kStagingAlignment);
  const int32_t* const block_ids = staging_.Put(absl::MakeConstSpan(block_ids_));
  int64_t num_floats = 0;
  for (const PlannedAttend& planned : planned_attends_) num_floats += NumPartialFloats(planned.job);
  // All at once, so that a growing context does not ask for more again and again.
  float* partials = nullptr;
  if (num_floats > 0) {
    partials = reinterpret_cast<float*>(
        attend_partials_.Get(std::max(num_floats * sizeof(float), limits_.partial_bytes)));
  }
  for (PlannedAttend& planned : planned_attends_) {
    if (placed == nullptr) planned.job.block_ids = block_ids + planned.first_block_id;
    planned.job.partials = partials;
    partials += NumPartialFloats(planned.job);
  }
  for (int index = 0; index < kNumAttendSchedules; ++index) {
    const Schedule& schedule = kSchedules[index];
    int64_t num_blocks = 0;
    size_t shared_bytes = 0;
    attend_jobs_.clear();
    for (const PlannedAttend& planned : planned_attends_) {
      if (planned.schedule != index) continue;
      AttendJob job = planned.job;
      job.first_block = num_blocks;
      num_blocks += job.q.num_rows * job.num_spans * NumTiles(job, schedule.num_heads);
      shared_bytes = std::max(shared_bytes, schedule.shared_bytes(job));
      attend_jobs_.push_back(job);
    }
    Launch("Attend", schedule.kernel, {num_blocks, schedule.num_threads, shared_bytes},
           PutAttendJobs(placed), static_cast<int>(attend_jobs_.size()));
  }
  int64_t num_blocks = 0;
  attend_jobs_.clear();
  for (const PlannedAttend& planned : planned_attends_) {
    if (planned.job.num_spans == 1) continue;
    AttendJob job = planned.job;
    job.first_block = num_blocks;
    num_blocks += job.q.num_rows * job.num_heads;
    attend_jobs_.push_back(job);
  }
  Launch("CombineSpans", CombineSpans, {num_blocks, kBlockThreads}, PutAttendJobs(placed),
         static_cast<int>(attend_jobs_.size()));
  planned_attends_.clear();
  block_ids_.clear();
}

}  // namespace orrery
