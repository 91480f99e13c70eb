#include "exchange/shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

constexpr size_t kDataOffset = 4096;
static_assert(2 * sizeof(RingControl) <= kDataOffset);
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

constexpr size_t SegmentBytes(size_t ring_bytes) { return kDataOffset + 2 * ring_bytes; }

}  // namespace

absl::StatusOr<Segment> Segment::Create(size_t ring_bytes) {
  UniqueFd fd(::memfd_create("orrery-exchange", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return SystemError("memfd_create");
  errno = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(SegmentBytes(ring_bytes)));
  if (errno != 0)
    return SystemError(absl::StrCat("memory of ", SegmentBytes(ring_bytes), " bytes"));
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return SystemError("sealing the memory");
  absl::StatusOr<Segment> segment = MapChecked(std::move(fd), ring_bytes);
  if (segment.ok()) {
    new (segment->to_shard().control) RingControl();
    new (segment->to_rank().control) RingControl();
  }
  return segment;
}

absl::StatusOr<Segment> Segment::Map(UniqueFd fd, size_t ring_bytes) {
  if (!std::has_single_bit(ring_bytes) || ring_bytes < kRingBytes || ring_bytes > kMaxRingBytes) {
    return absl::InvalidArgumentError(absl::StrCat("rings of ", ring_bytes,
                                                   " bytes; a power of two from ", kRingBytes,
                                                   " to ", kMaxRingBytes, " is allowed"));
  }
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);  // fails for all but memfds
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return absl::InvalidArgumentError("the passed memory is not sealed against shrinking");
  }
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) return SystemError("fstat");
  if (info.st_size != static_cast<off_t>(SegmentBytes(ring_bytes))) {
    return absl::InvalidArgumentError(absl::StrCat("the passed memory has ", info.st_size,
                                                   " bytes, not ", SegmentBytes(ring_bytes)));
  }
  return MapChecked(std::move(fd), ring_bytes);
}

absl::StatusOr<Segment> Segment::MapChecked(UniqueFd fd, size_t ring_bytes) {
  void* const base = ::mmap(nullptr, SegmentBytes(ring_bytes), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (base == MAP_FAILED) return SystemError("mmap");
  return Segment(std::move(fd), static_cast<std::byte*>(base), ring_bytes);
}

Segment::Segment(Segment&& other) noexcept
    : fd_(std::move(other.fd_)),
      base_(std::exchange(other.base_, nullptr)),
      ring_bytes_(other.ring_bytes_) {}

Segment::~Segment() {
  if (base_ != nullptr) ::munmap(base_, SegmentBytes(ring_bytes_));
}

RingPlace Segment::Place(int direction) const {
  return {.control = reinterpret_cast<RingControl*>(base_) + direction,
          .data = base_ + kDataOffset + direction * ring_bytes_,
          .size = ring_bytes_};
}

}  // namespace orrery
