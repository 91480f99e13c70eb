// How often this program has allocated since its start, in every thread, with operator new or with
// posix_memalign, as the kernels' scratch memory does. For tests only: linking it replaces both.
//
//   const int64_t before = NumAllocations();
//   kernels.Attend(all);
//   EXPECT_EQ(NumAllocations(), before);
#ifndef ORRERY_BASE_ALLOCATION_COUNTER_H_
#define ORRERY_BASE_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace orrery {

int64_t NumAllocations();

}  // namespace orrery

#endif  // ORRERY_BASE_ALLOCATION_COUNTER_H_
