// What a process says of itself when asked: proto/member.proto from a description that its owner
// keeps up to date.
//
//   MemberService member(description);
//   using internal::MemberDescription;
//   member.Update([](MemberDescription& d) { d.set_state(internal::MEMBER_STATE_READY); });
//   member.SetLive([&](MemberDescription& d) { d.set_loaded_bytes(loaded); });  // in every answer
//   member.SetOnAsked([&](const DescribeRequest& request) { ... });               // what others say when they ask
//
// Thread-safe.
#ifndef ORRERY_RPC_MEMBER_SERVICE_H_
#define ORRERY_RPC_MEMBER_SERVICE_H_

#include <cstdint>
#include <functional>
#include <random>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/member.grpc.pb.h"

namespace orrery {

// Served by the thread that brings the question: an idle cluster asks all the time, and waking up
// another would be most of the cost.
class MemberService : public internal::Member::CallbackService {
 public:
  using Edit = std::function<void(internal::MemberDescription&)>;
  using OnAsked = std::function<void(const internal::DescribeRequest&)>;

  explicit MemberService(internal::MemberDescription description)
      : description_(std::move(description)) {
    std::random_device device;
    description_.set_incarnation(uint64_t{device()} << 32 | device());
  }

  void Update(const Edit& edit) {
    absl::MutexLock lock(&mutex_);
    edit(description_);
  }
  // Adds what changes by itself (load, progress) to every answer. May be called from any thread,
  // under no lock of ours, and must not block.
  void SetLive(Edit live) {
    absl::MutexLock lock(&mutex_);
    live_ = std::move(live);
  }
  // Hears each question before it is answered; as for SetLive.
  void SetOnAsked(OnAsked on_asked) {
    absl::MutexLock lock(&mutex_);
    on_asked_ = std::move(on_asked);
  }
  // What Describe answers now.
  internal::MemberDescription Description() const {
    internal::MemberDescription description;
    Edit live;
    {
      absl::MutexLock lock(&mutex_);
      description = description_;
      live = live_;
    }
    if (live) live(description);
    return description;
  }

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const internal::DescribeRequest* request,
                                     internal::MemberDescription* response) override {
    OnAsked on_asked;
    {
      absl::MutexLock lock(&mutex_);
      on_asked = on_asked_;
    }
    if (on_asked) on_asked(*request);
    *response = Description();
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  mutable absl::Mutex mutex_;
  internal::MemberDescription description_ ABSL_GUARDED_BY(mutex_);
  Edit live_ ABSL_GUARDED_BY(mutex_);
  OnAsked on_asked_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orrery

#endif  // ORRERY_RPC_MEMBER_SERVICE_H_
