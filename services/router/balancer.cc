#include "services/router/balancer.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "grpcpp/client_context.h"
#include "rpc/deadline.h"
#include "rpc/status.h"

namespace orrery {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(1);

template <typename Request, typename Response>
struct Call {
  int member = -1;
  grpc::ClientContext context;
  Request request;
  Response response;
  absl::Status status;
};

// All at once, each with its deadline. start(call, done) begins one.
template <typename OneCall, typename Start>
void RunAll(std::vector<std::unique_ptr<OneCall>>& calls, const Start& start) {
  if (calls.empty()) return;
  absl::BlockingCounter num_left(static_cast<int>(calls.size()));
  for (const std::unique_ptr<OneCall>& call : calls) {
    SetDeadline(call->context, absl::Now() + kCallTimeout);
    start(*call, [&num_left, done = call.get()](const grpc::Status& status) {
      done->status = FromGrpcStatus(status);
      num_left.DecrementCount();
    });
  }
  num_left.Wait();
}

}  // namespace

Balancer::Balancer(const Options& options, RouterState* state)
    : options_(options), state_(state), core_(options.core) {
  for (const auto& [member, channel] : options_.channels) {
    stubs_[member] = internal::Placement::NewStub(channel);
  }
  thread_ = std::thread([this] { Run(); });
}

void Balancer::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    stopped_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Balancer::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const absl::Time next_round = absl::Now() + options_.interval;
    if (stopped_.wait_until(lock, absl::ToChronoTime(next_round), [this] { return stopping_; })) {
      return;
    }
    lock.unlock();
    RunRound();
    lock.lock();
  }
}

void Balancer::RunRound() {
  // A copy: deciding takes too long to keep requests waiting.
  const Membership membership =
      state_->With([](const RouterCore& core) { return core.membership(); });
  if (!core_.IsOurs(membership)) {
    core_.Forget();
    state_->With([](RouterCore& core) { core.OnBalanced(std::nullopt); });
    return;
  }
  CountRows(core_.Shards(membership));
  const std::vector<BalanceOrder> orders = core_.Decide(membership, absl::Now());
  const internal::BalanceView& view = core_.view();
  if (core_.has_moved()) {
    LogInfo(absl::StrFormat("copies of experts: imbalance %.2f -> %.2f: %s", view.before(),
                            view.after(), view.reason()));
  }
  state_->With([&](RouterCore& core) { core.OnBalanced(view); });
  Tell(orders, membership);
}

void Balancer::CountRows(const std::vector<int>& shards) {
  using CountCall = Call<internal::CountRowsRequest, internal::RowCounts>;
  std::vector<std::unique_ptr<CountCall>> calls;
  for (const int member : shards) {
    calls.push_back(std::make_unique<CountCall>());
    calls.back()->member = member;
  }
  RunAll(calls, [this](CountCall& call, auto done) {
    stubs_.at(call.member)
        ->async()
        ->CountRows(&call.context, &call.request, &call.response, std::move(done));
  });
  for (const std::unique_ptr<CountCall>& call : calls) {
    if (call->status.ok()) core_.OnRows(call->member, call->response);
  }
}

void Balancer::Tell(const std::vector<BalanceOrder>& orders, const Membership& membership) {
  using HoldCall = Call<internal::HoldCopiesRequest, internal::HoldCopiesResponse>;
  std::vector<std::unique_ptr<HoldCall>> calls;
  for (const BalanceOrder& order : orders) {
    HoldCall& call = *calls.emplace_back(std::make_unique<HoldCall>());
    call.member = order.member;
    call.request.set_from(options_.core.self);
    for (const ExpertKey& key : order.copies) {
      internal::ExpertCopy* const copy = call.request.add_copy();
      copy->set_layer(key.layer);
      copy->set_expert(key.expert);
    }
  }
  RunAll(calls, [this](HoldCall& call, auto done) {
    stubs_.at(call.member)
        ->async()
        ->HoldCopies(&call.context, &call.request, &call.response, std::move(done));
  });
  for (const std::unique_ptr<HoldCall>& call : calls) {
    if (!absl::IsInvalidArgument(call->status)) continue;  // else it is told again, or gone
    LogWarning(membership.member(call->member).info.name,
               " does not take its copies: ", std::string(call->status.message()));
  }
}

}  // namespace orrery
