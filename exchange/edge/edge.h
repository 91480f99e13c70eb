// One end of a connection between a rank and a shard in one lane: a channel over another one, which
// carries the words, while a carrier (NCCL, CUDA IPC) moves the rows wherever it can.
//
//              OnOpen            kInvite                greetings moved, both said kUp
//   kDown ----------> kWhole ----------------> kForming -------------------------------> kUp
//     ^                  ^  \                  |      |                                    |
//     |                  |   \                 |      |                                    |
//     |                  `--- declined, late --'      |                                    |
//     `-- OnClosed -- kBroken <-----------------------'--- lost, late, nonsense -----------'
//
// kWhole, and in kUp for frames of few rows or while all slots are taken: frames go whole through the
// channel below. kUp: the frame goes without its rows (kRows of exchange/edge/message.h), and they go by the
// carrier. The receiver so knows what comes, and asks for exactly that. Frames reach the sink in the order in
// which they were sent: a whole one waits for the rows of those before it. Rows that are not those that were
// sent, by their hash, never do: a sender that was given up may still write into slots that others
// have by now (Carrier::is_one_sided).
//
// A shard whose channel does not say the carrier's terms is never spoken to of it: the edge stays in kWhole.
// A failure in kForming costs nothing either: frames go whole, and the rank tries again after a growing pause.
// A failure in kUp ends the connection below: what is under way is lost, the rank connects anew and
// forms anew after the pause. Either way both pipes are buried.
//
// Internal to exchange/edge.
// Requirements on the channel below: it calls no sink from within Send, Reset or Close.
// Threads: as exchange/channel.h says. Frames reach the sink in the thread that brought the last part of
// them, the channel's below or the caretaker's. One lock, never held during a callback of the sink.
#ifndef ORRERY_EXCHANGE_EDGE_EDGE_H_
#define ORRERY_EXCHANGE_EDGE_EDGE_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "exchange/caretaker.h"
#include "exchange/channel.h"
#include "exchange/edge/carrier.h"
#include "exchange/edge/edge_layer.h"
#include "exchange/edge/message.h"
#include "exchange/edge/undertaker.h"

namespace orrery {

// What all edges of a process share. The order is that of making; they go the other way round.
struct EdgeShared {
  EdgeOptions options;
  std::unique_ptr<Carrier> carrier;
  std::unique_ptr<Undertaker> undertaker;
  std::unique_ptr<Caretaker> caretaker;
};

class Edge : public Channel, public ChannelSink, public CaredFor {
 public:
  // name: of the edge, for log lines. A shard's edge is open from the start, a rank's when the channel
  // below says so.
  Edge(std::shared_ptr<const EdgeShared> shared, EdgeRole role, std::string name);
  ~Edge() override;
  // Both before the first frame; the sink of a rank outlives the edge.
  void SetBelow(std::shared_ptr<Channel> below);
  void SetSink(std::shared_ptr<ChannelSink> sink);

  bool Send(std::string frame) override;
  void Close(const absl::Status& why) override;
  void Reset(const absl::Status& why) override;
  void Knock() override;
  std::string_view carrier() const override;
  std::string carrier_problem() const override;

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
    uint64_t rows_hash = 0;
  };

  // The lock is held in all of these. Deliver lets go of it while it calls the sink, Form while it calls
  // the carrier.
  void Transition(State to);
  bool IsOpen() const { return state_ != State::kDown && state_ != State::kBroken; }
  // edge.cc: what goes through the edge.
  bool SendRows(std::string_view frame, size_t num_row_bytes);
  bool SendMessage(MessageHeader header, std::string_view body);
  absl::Status OnMessage(std::string_view bytes);
  absl::Status OnRows(const MessageView& message);
  absl::Status Deliver(std::unique_lock<std::mutex>& lock);
  absl::Status TakeRows(Arriving& arriving, std::string_view rows);
  absl::Status AdvancePipes(absl::Time now);
  // edge_forming.cc: how it comes up, and how it breaks.
  absl::Status OnInvite(const MessageView& message);
  absl::Status OnOther(const MessageView& message);
  void StartForming(uint32_t attempt, absl::Time now);
  void Form(std::unique_lock<std::mutex>& lock, absl::Time now);
  void AdvanceForming(absl::Time now);
  bool HasGreeting(absl::Status& status);
  void Decline(absl::Time now, const absl::Status& why);
  void StayWhole(absl::Time now, const absl::Status& why);
  void Settle(std::string_view peer_layer);
  // The connection below is over, or about to be.
  void Break(absl::Time now, const absl::Status& why);
  void BuryPipes();
  absl::Duration NextPause() const;

  const std::shared_ptr<const EdgeShared> shared_;
  const EdgeRole role_;
  const std::string name_;

  mutable std::mutex mutex_;
  std::condition_variable delivered_;
  // All guarded by mutex_.
  std::shared_ptr<Channel> below_;
  std::shared_ptr<ChannelSink> sink_;
  State state_ = State::kDown;
  Half half_;  // without pipes unless kForming or kUp
  std::deque<Arriving> arriving_;
  size_t arriving_bytes_ = 0;
  bool delivering_ = false;  // a thread is calling the sink
  uint64_t num_told_ = 0;    // of rows taken out of the slots, as the other side knows it
  absl::Time tell_at_ = absl::InfiniteFuture();  // of more of them
  uint32_t attempt_ = 0;                         // to form, the current or the last
  std::optional<std::string> peer_words_;        // of this attempt
  bool has_met_ = false, heard_greeting_ = false, said_up_ = false, heard_up_ = false;
  absl::Time give_up_at_ = absl::InfiniteFuture();  // on forming
  absl::Time form_at_ = absl::InfinitePast();
  absl::Time up_since_ = absl::InfinitePast();
  int num_failures_ = 0;  // in a row
  std::string problem_;   // why it is not up
};

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_EDGE_EDGE_H_
