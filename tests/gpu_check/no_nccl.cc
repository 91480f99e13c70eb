// The stand-in for NCCL has communicators of two members only: tests/nccl.
#include <gtest/gtest.h>

#include "tests/gpu_check/parts.h"

namespace orrery {

void RegisterNccl() {
  RegisterTest("Nccl", "OneMember", [] { GTEST_SKIP() << "the stand-in knows pairs only"; });
}

}  // namespace orrery
