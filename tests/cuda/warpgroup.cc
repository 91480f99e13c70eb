// Models of the wgmma instructions (PTX ISA 9.0, 9.7.15): descriptors, swizzled operands, fragments, groups.

#include <ptx_sm90_on_host.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/dtypes.h"
#include "tests/cuda/grid.h"

namespace cuda_on_host {
namespace {

constexpr int kNumRows = 64;
constexpr int kMaxColumns = 256;

struct Shape {
  int num_columns;
  int num_inputs;
  int value_bytes;
  bool across;  // b
};
Shape ShapeOf(ProductKind kind) {
  if (kind == ProductKind::kFp8) return {64, 32, 1, false};
  if (kind == ProductKind::kBf16) return {64, 16, 2, false};
  return {256, 16, 2, true};
}

using Values = std::vector<float>;  // [num, num_inputs]

// Values [num, num_inputs] of an operand: 9.7.15.5.1.2.2 "Matrix Descriptor Format", 9.7.15.5.1.2.1.3 "Canonical
// Layouts" for slabs of 128 bytes: K-major ((8,m),(T,2k)):((8T,SBO),(1,T)), MN-major
// ((T,8,m),(8,k)):((1,T,LBO),(8T,SBO)), then Swizzle<3,4,3> of the address.
Values Read(uint64_t descriptor, int num, const Shape& shape, bool across) {
  const auto bits = [&](int begin) { return static_cast<uint32_t>(descriptor >> begin & 0x3fff); };
  const uint32_t begin = bits(0) << 4, slab_stride = bits(16) << 4, rows_stride = bits(32) << 4;
  ORRERY_CHECK(descriptor >> 62 == 1 && (descriptor >> 49 & 7) == 0 && (begin & 0x380) == 0)
      << WhoRuns() << ": a descriptor of an operand that does not begin a swizzled tile: 0x"
      << std::hex << descriptor;
  constexpr int kSlab = 128, kRows = 8;
  Values values(static_cast<size_t>(num) * shape.num_inputs);
  for (int i = 0; i < num; ++i) {
    for (int k = 0; k < shape.num_inputs; ++k) {
      const int row = across ? k : i, byte = (across ? i : k) * shape.value_bytes;
      const uint32_t plain = begin + row / kRows * rows_stride + row % kRows * kSlab +
                             (across ? byte / kSlab * slab_stride + byte % kSlab : byte);
      const uint32_t address = plain ^ (plain >> 3 & 0x70);
      ORRERY_CHECK(address >= kReservedShared &&
                   address + shape.value_bytes <= kReservedShared + SharedBytes())
          << WhoRuns() << ": an operand reaches shared address " << address;
      const std::byte* const at = DynamicSharedMemory() + (address - kReservedShared);
      if (shape.value_bytes == 1) {
        values[i * shape.num_inputs + k] = orrery::Fp8E4m3ToF32(static_cast<uint8_t>(*at));
      } else {
        uint16_t bits16;
        std::memcpy(&bits16, at, sizeof(bits16));
        values[i * shape.num_inputs + k] = orrery::Bf16ToF32(bits16);
      }
    }
  }
  return values;
}

// NaN equals NaN.
bool SameBits(const Values& a, const Values& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Sums that instructions under way will write.
struct Sums {
  int num_products = 0;
  int num_columns = 0;
  float* of_thread[kWarpgroupThreads];
  float values[kNumRows][kMaxColumns];

  // 9.7.15.5.1.1 "Register Fragments": figure of matrix D.
  template <typename Use>
  void ForEach(Use use) {
    for (int thread = 0; thread < kWarpgroupThreads; ++thread) {
      const int lane = thread % kWarpLanes, g = lane / 4, t = lane % 4;
      for (int i = 0; i < num_columns / 2; ++i) {
        const int row = thread / kWarpLanes * 16 + i % 4 / 2 * 8 + g;
        use(of_thread[thread][i], values[row][i / 4 * 8 + 2 * t + i % 2]);
      }
    }
  }
};

struct UnderWay {
  IssuedProduct product;
  Values a;
  Values b;
  float* sums;  // of the first thread
};

struct Warpgroup {
  Meeting meeting;
  IssuedProduct product_of_thread[kWarpgroupThreads];
  float* sums_of_thread[kWarpgroupThreads];
  bool is_fenced = false;
  std::vector<UnderWay> issued;
  std::deque<std::vector<UnderWay>> committed;
  std::map<float*, Sums> sums;
};

std::vector<Warpgroup>& Warpgroups() {
  static auto& warpgroups = *new std::vector<Warpgroup>;
  return warpgroups;
}
Warpgroup& Mine() {
  const size_t index = CurrentThread() / kWarpgroupThreads;
  ORRERY_CHECK(index < Warpgroups().size()) << WhoRuns() << " is in no whole warpgroup";
  return Warpgroups()[index];
}

template <int num_columns>
void Add(const Values& a, const Values& b, int num_inputs, float (&sums)[kNumRows][kMaxColumns]) {
  float columns[32][num_columns];
  for (int n = 0; n < num_columns; ++n) {
    for (int k = 0; k < num_inputs; ++k) columns[k][n] = b[n * num_inputs + k];
  }
  for (int row = 0; row < kNumRows; ++row) {
    for (int k = 0; k < num_inputs; ++k) {
      const float value = a[row * num_inputs + k];
      for (int n = 0; n < num_columns; ++n) sums[row][n] += value * columns[k][n];
    }
  }
}

void Issue(Warpgroup& warpgroup) {
  const IssuedProduct product = warpgroup.product_of_thread[0];
  for (const IssuedProduct& other : warpgroup.product_of_thread) {
    ORRERY_CHECK(other == product) << WhoRuns() << ": its warpgroup does not agree on a product";
  }
  ORRERY_CHECK(warpgroup.is_fenced)
      << WhoRuns() << " multiplies without wgmma.fence since it last waited";
  const Shape shape = ShapeOf(product.kind);
  float* const key = warpgroup.sums_of_thread[0];
  Sums& sums = warpgroup.sums[key];
  if (sums.num_products++ == 0) {
    sums.num_columns = shape.num_columns;
    std::copy_n(warpgroup.sums_of_thread, kWarpgroupThreads, sums.of_thread);
    sums.ForEach([](float& of_thread, float& value) {
      value = of_thread;
      of_thread = std::numeric_limits<float>::quiet_NaN();
    });
  }
  ORRERY_CHECK(sums.num_columns == shape.num_columns) << WhoRuns() << ": sums of two shapes";
  if (!product.adds) std::memset(sums.values, 0, sizeof(sums.values));
  UnderWay under_way = {product, Read(product.a, kNumRows, shape, false),
                        Read(product.b, shape.num_columns, shape, shape.across), key};
  if (shape.num_columns == 64) {
    Add<64>(under_way.a, under_way.b, shape.num_inputs, sums.values);
  } else {
    Add<256>(under_way.a, under_way.b, shape.num_inputs, sums.values);
  }
  warpgroup.issued.push_back(std::move(under_way));
}

void End(Warpgroup& warpgroup, const UnderWay& under_way) {
  const IssuedProduct& product = under_way.product;
  const Shape shape = ShapeOf(product.kind);
  ORRERY_CHECK(SameBits(under_way.a, Read(product.a, kNumRows, shape, false)) &&
               SameBits(under_way.b, Read(product.b, shape.num_columns, shape, shape.across)))
      << WhoRuns() << ": shared memory changed while a product read it";
  Sums& sums = warpgroup.sums[under_way.sums];
  if (--sums.num_products > 0) return;
  sums.ForEach([](float& of_thread, float& value) { of_thread = value; });
  warpgroup.sums.erase(under_way.sums);
}

}  // namespace

void FenceProducts() {
  Warpgroup& mine = Mine();
  mine.meeting.Meet("wgmma.fence", kWarpgroupThreads, [&] { mine.is_fenced = true; });
}

void Multiply(const IssuedProduct& product, float* sums) {
  Warpgroup& mine = Mine();
  const int thread = CurrentThread() % kWarpgroupThreads;
  mine.product_of_thread[thread] = product;
  mine.sums_of_thread[thread] = sums;
  mine.meeting.Meet("wgmma.mma_async", kWarpgroupThreads, [&] { Issue(mine); });
}

void CommitProducts() {
  Warpgroup& mine = Mine();
  mine.meeting.Meet("wgmma.commit_group", kWarpgroupThreads, [&] {
    mine.committed.push_back(std::move(mine.issued));
    mine.issued.clear();
  });
}

void AwaitProducts(int num_left) {
  Warpgroup& mine = Mine();
  mine.meeting.Meet("wgmma.wait_group", kWarpgroupThreads, [&] {
    for (; static_cast<int>(mine.committed.size()) > num_left; mine.committed.pop_front()) {
      for (const UnderWay& under_way : mine.committed.front()) End(mine, under_way);
    }
    mine.is_fenced = false;
  });
}

void BeginWarpgroups() { Warpgroups().assign(NumThreads() / kWarpgroupThreads, Warpgroup()); }

void EndWarpgroups() {
  for (const Warpgroup& warpgroup : Warpgroups()) {
    ORRERY_CHECK(warpgroup.issued.empty() && warpgroup.committed.empty())
        << "a block ends while products are under way";
  }
}

}  // namespace cuda_on_host
