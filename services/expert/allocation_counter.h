// How often this program has allocated since its start, in every thread. For tests only: linking it
// replaces operator new.
//
//   const int64_t before = NumAllocations();
//   shard->Run(group);
//   EXPECT_EQ(NumAllocations(), before);
#ifndef ORRERY_SERVICES_EXPERT_ALLOCATION_COUNTER_H_
#define ORRERY_SERVICES_EXPERT_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace orrery {

int64_t NumAllocations();

}  // namespace orrery

#endif  // ORRERY_SERVICES_EXPERT_ALLOCATION_COUNTER_H_
