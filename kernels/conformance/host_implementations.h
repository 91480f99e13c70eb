// The implementations that compute on processors.
#ifndef ORRERY_KERNELS_CONFORMANCE_HOST_IMPLEMENTATIONS_H_
#define ORRERY_KERNELS_CONFORMANCE_HOST_IMPLEMENTATIONS_H_

#include <vector>

#include "kernels/conformance/kernels_testing.h"

namespace orrery {

// Those of the x86 family that run on this machine: equal bits.
std::vector<Implementation> X86Variants();

}  // namespace orrery

#endif  // ORRERY_KERNELS_CONFORMANCE_HOST_IMPLEMENTATIONS_H_
