// Stacks that take turns within one thread: what the threads of a CUDA block are made of here.
//
//   Fiber main;                                            // the stack that we are on
//   Fiber other([&] { for (;;) Fiber::Switch(other, main); });   // has not started
//   Fiber::Switch(main, other);                            // until somebody switches back
//
// A fiber starts with a system call (ucontext) and afterwards changes hands with _setjmp and _longjmp, which
// take some ten nanoseconds; swapcontext would ask the kernel for the signal mask each time.
//
// Threads: a fiber belongs to the thread that started it. Its body must not return and must not throw.
#ifndef ORRERY_TESTS_CUDA_FIBER_H_
#define ORRERY_TESTS_CUDA_FIBER_H_

#include <setjmp.h>
#include <ucontext.h>

#include <functional>

namespace orrery {

class Fiber {
 public:
  Fiber() = default;
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  static void Switch(Fiber& from, Fiber& to);

 private:
  static void Start(unsigned low, unsigned high);

  std::function<void()> body_;
  void* stack_ = nullptr;  // with a closed page below it
  bool started_ = true;
  ucontext_t first_;
  jmp_buf state_;
  // What AddressSanitizer wants to know of a stack.
  const void* bottom_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace orrery

#endif  // ORRERY_TESTS_CUDA_FIBER_H_
