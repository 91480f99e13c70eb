#include "tests/gpu_check/row_check.h"

#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

// NaN in every format that results have.
constexpr std::byte kNothing{0xff};

// How an operation reaches the GPU.
enum class Way { kQueued, kReplayed };

class RowCheck {
 public:
  RowCheck(const Gpu* gpu, const RowOperation* operation) : gpu_(*gpu), operation_(*operation) {}

  absl::Status Open() {
    const std::vector<std::byte> nothing(operation_.num_rows * operation_.row_bytes, kNothing);
    ASSIGN_OR_RETURN(nothing_, gpu_.Upload(nothing));
    ASSIGN_OR_RETURN(out_, gpu_.Allocate(nothing.size()));
    ASSIGN_OR_RETURN(all_, Run(0, operation_.num_rows, Way::kQueued));
    for (int row = 0; row < operation_.num_rows; ++row) {
      const size_t at = row * operation_.row_bytes;
      if (std::memcmp(all_.data() + at, nothing.data() + at, operation_.row_bytes) == 0) {
        return absl::InternalError(absl::StrCat("row ", row, " was not written"));
      }
    }
    return absl::OkStatus();
  }

  // All numbers of rows, and each row alone.
  testing::AssertionResult CheckAll(Way way) {
    for (int num = 1; num <= operation_.num_rows; ++num) {
      if (testing::AssertionResult same = Check(0, num, way); !same) return same;
    }
    for (int row = 1; row < operation_.num_rows; ++row) {
      if (testing::AssertionResult same = Check(row, 1, way); !same) return same;
    }
    return testing::AssertionSuccess();
  }

 private:
  // Whether these rows are what they are among all.
  testing::AssertionResult Check(int begin, int num, Way way) {
    const absl::StatusOr<std::vector<std::byte>> rows = Run(begin, num, way);
    if (!rows.ok()) return testing::AssertionFailure() << rows.status();
    const size_t row_bytes = operation_.row_bytes;
    for (int row = 0; row < num; ++row) {
      const std::byte* const ours = rows->data() + row * row_bytes;
      if (std::memcmp(ours, all_.data() + (begin + row) * row_bytes, row_bytes) != 0) {
        return testing::AssertionFailure()
               << "row " << begin + row << " differs when rows " << begin << " to "
               << begin + num - 1 << " come together"
               << (way == Way::kReplayed ? ", captured and replayed," : "")
               << " from when it is one of " << operation_.num_rows;
      }
    }
    return testing::AssertionSuccess();
  }

  absl::StatusOr<std::vector<std::byte>> Run(int begin, int num, Way way) {
    const size_t num_bytes = num * operation_.row_bytes;
    gpu_.stream->CopyOnDevice(out_.data(), nothing_.data(), num_bytes);
    std::unique_ptr<Graph> graph;  // until the download has waited for it
    if (way == Way::kQueued) {
      operation_.run(begin, num, out_);
    } else {
      ASSIGN_OR_RETURN(graph, gpu_.stream->Capture([&] { operation_.run(begin, num, out_); }));
      gpu_.stream->Replay(*graph);
    }
    return gpu_.Download(out_, num_bytes);
  }

  const Gpu& gpu_;
  const RowOperation& operation_;
  Buffer nothing_, out_;
  std::vector<std::byte> all_;
};

}  // namespace

testing::AssertionResult SameBitsForEveryNumberOfRows(const Gpu& gpu,
                                                      const RowOperation& operation) {
  RowCheck check(&gpu, &operation);
  if (const absl::Status status = check.Open(); !status.ok()) {
    return testing::AssertionFailure() << status;
  }
  // Queued first, all of them: scratch memory grows then, and no more once there are graphs.
  if (testing::AssertionResult same = check.CheckAll(Way::kQueued); !same) return same;
  return check.CheckAll(Way::kReplayed);
}

}  // namespace orrery
