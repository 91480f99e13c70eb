// A rank's channel to one shard in one lane: one gRPC stream at a time, opened again after every
// loss.
//
//                Start            shard accepted            read failed
//   kPausing ------------> kOpening -----------> kOpen -------------------> kEnding
//      ^  \                    \__________________________________________/   |
//      |   `-- Close --> kClosed <--- OnDone, if closing ---------------------|
//      `------------------------------ OnDone: OnClosed, pause ---------------'
//
// Internal to exchange/grpc.
// Threads: as exchange/channel.h says; one lock, never held during a callback of the sink.
#ifndef ORRERY_EXCHANGE_GRPC_GRPC_RANK_CHANNEL_H_
#define ORRERY_EXCHANGE_GRPC_GRPC_RANK_CHANNEL_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>

#include "exchange/caretaker.h"
#include "exchange/channel.h"
#include "exchange/grpc/grpc_rank.h"
#include "exchange/grpc/out_queue.h"
#include "proto/expert.grpc.pb.h"
#include "rpc/member_channel.h"

namespace orrery {

class GrpcRankChannel : public Channel, public CaredFor {
 public:
  struct Target {
    std::string peer_name;
    Lane lane = Lane::kDecode;
    std::shared_ptr<MemberChannel> member;
    // A new one for each attempt after a failure, null if there can be none: the connection may lead to who has
    // the address now, while the name leads elsewhere.
    std::function<std::shared_ptr<MemberChannel>()> renew;
  };
  GrpcRankChannel(const GrpcRankOptions& options, Target target,
                  std::shared_ptr<Caretaker> caretaker, ChannelSink* sink);
  ~GrpcRankChannel() override;

  bool Send(std::string frame) override;
  void Close(const absl::Status& why) override;
  void Reset(const absl::Status& why) override;
  void Knock() override;
  std::string peer_layer() const override;
  std::string_view carrier() const override;
  absl::Time TakeCare(absl::Time now) override;

 private:
  enum class State { kPausing, kOpening, kOpen, kEnding, kClosed };
  class Stream;

  void Transition(State to);  // the lock is held, as for the next three
  void Start(absl::Time now);
  void WriteNext();
  absl::Duration NextPause();

  // Reactions of the stream.
  void OnAccepted(bool answers_knocks, std::string peer_layer);
  void OnFrame(absl::StatusOr<std::string> frame);
  void HearPeer(bool answers_knock);
  void OnReadFailed();
  void OnWriteDone(bool ok);
  void Forget();  // stream_ is about to be deleted
  void OnDone(const grpc::Status& status);

  const GrpcRankOptions options_;
  Target target_;  // its member is changed between two streams, under mutex_
  const std::string log_name_;
  const std::shared_ptr<Caretaker> caretaker_;
  ChannelSink* const sink_;

  mutable std::mutex mutex_;
  std::condition_variable ended_;  // there is no stream any more
  // All guarded by mutex_.
  State state_ = State::kPausing;
  Stream* stream_ = nullptr;  // deletes itself when done
  OutQueue queue_;
  bool closing_ = false;
  bool was_open_ = false;        // the current stream
  bool answers_knocks_ = false;  // the peer, in the current stream
  // Since when a knock is out and nothing comes; InfiniteFuture: none is out.
  absl::Time knocking_since_ = absl::InfiniteFuture();
  std::string peer_layer_;  // of the current stream, or the last
  int num_failures_ = 0;    // since it was last open
  absl::Time open_at_ = absl::InfinitePast();
  absl::Time give_up_at_ = absl::InfiniteFuture();  // on opening, or ending by itself
  std::minstd_rand jitter_;
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_GRPC_RANK_CHANNEL_H_
