// One end of a connection between a rank and a shard in one lane: a channel over another one, which
// carries the words, while NCCL carries the rows wherever it can.
//
//              OnOpen            kInvite                greetings moved, both said kUp
//   kDown ----------> kWhole ----------------> kForming -------------------------------> kUp
//     ^                  ^  \                  |      |                                    |
//     |                  |   \                 |      |                                    |
//     |                  `--- declined, late --'      |                                    |
//     `-- OnClosed -- kBroken <-----------------------'--- lost, late, nonsense -----------'
//
// kWhole, and in kUp for frames of few rows or while all slots are taken: frames go whole through the
// channel below. kUp: the frame goes without its rows (kRows of exchange/nccl/message.h), and they
// follow by NCCL. The receiver so knows what comes, and asks for exactly that. Frames reach the sink in
// the order in which they were sent: a whole one waits for the rows of those before it.
//
// A failure in kForming costs nothing: frames go whole, and the rank tries again after a growing pause.
// A failure in kUp resets the connection below: what is under way is lost, the rank connects anew and
// forms anew. Either way both pipes are buried.
//
// Internal to exchange/nccl.
// Requirements on the channel below: it calls no sink from within Send, Reset or Close.
// Threads: as exchange/channel.h says. Frames reach the sink in the thread that brought the last part of
// them, the channel's below or the caretaker's. One lock, never held during a callback of the sink.
#ifndef ORRERY_EXCHANGE_NCCL_NCCL_EDGE_H_
#define ORRERY_EXCHANGE_NCCL_NCCL_EDGE_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "exchange/caretaker.h"
#include "exchange/channel.h"
#include "exchange/nccl/message.h"
#include "exchange/nccl/nccl_layer.h"
#include "exchange/nccl/pipe.h"
#include "exchange/nccl/slots.h"
#include "exchange/nccl/undertaker.h"

namespace orrery {

// What all edges of a process share. The order is that of making; they go the other way round.
struct NcclShared {
  NcclOptions options;
  int nccl_version = 0;
  std::unique_ptr<Device> device;
  std::unique_ptr<SlotPool> slots;
  std::unique_ptr<Undertaker> undertaker;
  std::unique_ptr<Caretaker> caretaker;
};

class NcclEdge : public Channel, public ChannelSink, public CaredFor {
 public:
  enum class Role { kRank, kShard };

  // name: of the edge, for log lines. A shard's edge is open from the start, a rank's when the channel
  // below says so.
  NcclEdge(std::shared_ptr<const NcclShared> shared, Role role, std::string name);
  ~NcclEdge() override;
  // Both before the first frame; the sink of a rank outlives the edge.
  void SetBelow(std::shared_ptr<Channel> below);
  void SetSink(std::shared_ptr<ChannelSink> sink);

  bool Send(std::string frame) override;
  void Close(const absl::Status& why) override;
  void Reset(const absl::Status& why) override;
  std::string_view carrier() const override;

  void OnOpen() override;
  absl::Status OnFrame(std::string frame) override;
  void OnClosed(const absl::Status& why) override;

  absl::Time TakeCare(absl::Time now) override;

 private:
  enum class State { kDown, kWhole, kForming, kUp, kBroken };
  // A frame, or the part of it that came through the channel below.
  struct Arriving {
    std::string frame;
    bool rows_follow = false;
  };

  // The lock is held in all of these. Deliver lets go of it while it calls the sink, Form while it calls
  // NCCL.
  void Transition(State to);
  bool SendRows(std::string_view frame, size_t num_row_bytes);
  void SendMessage(MessageKind kind, std::string_view body);
  void Decline(const absl::Status& why);
  absl::Status OnMessage(std::string_view bytes);
  absl::Status OnInvite(const MessageView& message);
  absl::Status OnRows(const MessageView& message);
  absl::Status Deliver(std::unique_lock<std::mutex>& lock);
  void StartForming(uint32_t attempt, absl::Time now);
  void Form(std::unique_lock<std::mutex>& lock, absl::Time now);
  absl::Status AdvancePipes(absl::Time now);
  void AdvanceForming(absl::Time now);
  void StayWhole(absl::Time now, const absl::Status& why);
  void Break(absl::Time now, const absl::Status& why);
  void BuryPipes();
  absl::Duration NextPause() const;

  // Without the lock.
  static absl::Status MakeIds(Ids& ids);
  // Sets what it made before it failed, too.
  absl::Status MakePipes(const Ids& ids, std::unique_ptr<Pipe>& out,
                         std::unique_ptr<Pipe>& in) const;

  const std::shared_ptr<const NcclShared> shared_;
  const Role role_;
  const std::string name_;

  mutable std::mutex mutex_;
  std::condition_variable delivered_;
  // All guarded by mutex_.
  std::shared_ptr<Channel> below_;
  std::shared_ptr<ChannelSink> sink_;
  State state_ = State::kDown;
  std::unique_ptr<Pipe> out_, in_;  // null unless kForming or kUp
  std::deque<Arriving> arriving_;
  size_t arriving_bytes_ = 0;
  bool delivering_ = false;  // a thread is calling the sink
  uint32_t attempt_ = 0;     // to form, the current or the last
  Ids invited_;              // of a shard, in kForming
  bool said_up_ = false, heard_up_ = false;
  absl::Time give_up_at_ = absl::InfiniteFuture();  // on forming
  absl::Time form_at_ = absl::InfinitePast();
  absl::Time up_since_ = absl::InfinitePast();
  int num_failures_ = 0;  // in a row
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_NCCL_NCCL_EDGE_H_
