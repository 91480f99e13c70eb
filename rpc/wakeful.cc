#include "rpc/wakeful.h"

#include <chrono>

#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"

namespace orrery {
namespace {

// A thread dozes off after 1 s: the second event within it may come late by a fifth.
constexpr std::chrono::milliseconds kInterval(400);

struct Call {
  grpc::ClientContext context;
  grpc::Slice nothing;
  grpc::ByteBuffer request{&nothing, 1};
  grpc::ByteBuffer response;
};

}  // namespace

// Without credentials gRPC makes a channel on which every call fails at once.
Wakeful::Wakeful()
    : nowhere_(grpc::CreateChannel("nowhere", nullptr)), thread_([this] { Loop(); }) {}

Wakeful::~Wakeful() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
  std::unique_lock lock(mutex_);
  // Not a wait without end: gRPC promises the callback, and there is no network in between.
  changed_.wait(lock, [this] { return num_calls_ == 0; });
}

void Wakeful::Loop() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    ++num_calls_;
    lock.unlock();
    MakeEvent();
    lock.lock();
  }
}

void Wakeful::MakeEvent() {
  auto* const call = new Call();
  grpc::GenericStub(nowhere_).UnaryCall(&call->context, "/orrery/Wake", {}, &call->request,
                                        &call->response, [this, call](const grpc::Status&) {
                                          delete call;
                                          std::lock_guard lock(mutex_);
                                          --num_calls_;
                                          if (stopping_) changed_.notify_all();
                                        });
}

}  // namespace orrery
