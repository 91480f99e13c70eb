// glibc's check of longjmp believes in one stack.
#undef _FORTIFY_SOURCE

#include "tests/cuda/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <utility>

#include "base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace orrery {
namespace {

constexpr size_t kPage = 4096;
// Ten times what the largest kernel takes; pages that nobody touches cost nothing.
constexpr size_t kStackBytes = 64 * kPage;

// The fiber that is being left, for AddressSanitizer.
Fiber* leaving = nullptr;

}  // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)), started_(false) {
  stack_ = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
  ORRERY_CHECK(stack_ != MAP_FAILED) << "no memory for a stack";
  ORRERY_CHECK(mprotect(stack_, kPage, PROT_NONE) == 0);
  bottom_ = static_cast<char*>(stack_) + kPage;
  stack_bytes_ = kStackBytes;
}

Fiber::~Fiber() {
  if (stack_ != nullptr) munmap(stack_, kPage + kStackBytes);
}

void Fiber::Start(unsigned low, unsigned high) {
  auto* const self = reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 | low);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &leaving->bottom_, &leaving->stack_bytes_);
#endif
  self->body_();
  ORRERY_CHECK(false) << "the body of a fiber returned";
}

// What lives across _setjmp is not changed in between.
__attribute__((noinline)) void Fiber::Switch(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.stack_bytes_);
#endif
  leaving = &from;
  if (_setjmp(from.state_) == 0) {
    if (to.started_) _longjmp(to.state_, 1);
    to.started_ = true;
    ORRERY_CHECK(getcontext(&to.first_) == 0);
    to.first_.uc_stack.ss_sp = const_cast<void*>(to.bottom_);
    to.first_.uc_stack.ss_size = to.stack_bytes_;
    to.first_.uc_link = nullptr;
    // makecontext passes ints only.
    const auto address = reinterpret_cast<uintptr_t>(&to);
    makecontext(&to.first_, reinterpret_cast<void (*)()>(&Fiber::Start), 2,
                static_cast<unsigned>(address), static_cast<unsigned>(address >> 32));
    setcontext(&to.first_);
  }
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack_, &leaving->bottom_, &leaving->stack_bytes_);
#endif
}

}  // namespace orrery
