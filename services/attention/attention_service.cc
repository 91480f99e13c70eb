#include "services/attention/attention_service.h"

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "rpc/deadline.h"
#include "rpc/status.h"
#include "services/attention/sequence_proto.h"

namespace orrery {
namespace {

// One call of Generate: what comes into its outbox goes out, one write at a time.
//
//   news ---> Advance ---> StartWrite ---> OnWriteDone ---> Advance ---> ... ---> Finish ---> OnDone
//
// The courier may still hold it when gRPC is done with it, hence the shared ownership.
class GenerateStream : public grpc::ServerWriteReactor<internal::SequenceEvent>,
                       public std::enable_shared_from_this<GenerateStream> {
 public:
  explicit GenerateStream(grpc::CallbackServerContext* context) : context_(context) {}

  void Begin(const absl::StatusOr<Engine*>& engine, GenerationRequest request) {
    self_ = shared_from_this();
    num_prompt_tokens_ = static_cast<int>(request.prompt_ids.size());
    const auto on_news = [weak = weak_from_this()] {
      if (const auto stream = weak.lock()) stream->OnNews();
    };
    std::lock_guard lock(mutex_);  // the first news may come before the outbox is here
    absl::Status refused = engine.status();
    if (engine.ok()) {
      absl::StatusOr<std::shared_ptr<Outbox>> outbox =
          (*engine)->Submit(std::move(request), on_news);
      refused = outbox.status();
      if (outbox.ok()) outbox_ = *std::move(outbox);
    }
    if (!refused.ok()) End(refused);
  }

  void OnNews() {
    std::lock_guard lock(mutex_);
    Advance();
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    sent_headers_ = true;
    if (!ok) Drop();
    Advance();
  }
  void OnCancel() override {
    std::lock_guard lock(mutex_);
    Drop();
    Advance();
  }
  void OnDone() override { self_.reset(); }  // deletes it, unless the courier is just here

 private:
  // All below with the lock.

  // Starts the next write if none is under way; ends the call when nothing is left.
  void Advance() {
    if (writing_ || ended_) return;
    if (client_is_gone_) return End(absl::CancelledError("the client has gone away"));
    if (events_.empty()) events_ = outbox_->Take();
    if (events_.empty()) {
      if (const std::optional<absl::Status> status = outbox_->status()) End(*status);
      return;
    }
    ToProto(events_.front(), num_prompt_tokens_, message_);
    events_.pop_front();
    if (!events_.empty()) {
      // The headers travel with the first write, which is done when they are sent. A hint would hold
      // them back until the next write: for ever.
      return Write(sent_headers_ ? grpc::WriteOptions().set_buffer_hint() : grpc::WriteOptions());
    }
    const std::optional<absl::Status> status = outbox_->status();
    if (!status.has_value() || !status->ok()) return Write({});
    ended_ = true;
    StartWriteAndFinish(&message_, {}, grpc::Status::OK);
  }

  void Write(grpc::WriteOptions options) {
    writing_ = true;
    StartWrite(&message_, options);
  }
  void Drop() {
    client_is_gone_ = true;
    if (outbox_ != nullptr) outbox_->Cancel();
  }
  void End(const absl::Status& status) {
    ended_ = true;
    AddTrailers(status, *context_);
    Finish(ToGrpcStatus(status));
  }

  grpc::CallbackServerContext* const context_;  // not to be touched once ended
  std::shared_ptr<GenerateStream> self_;        // until OnDone
  int num_prompt_tokens_ = 0;

  std::mutex mutex_;
  // Guarded by mutex_.
  std::shared_ptr<Outbox> outbox_;   // null if the request was refused
  std::deque<OutputEvent> events_;   // taken from it, and not yet given to gRPC
  internal::SequenceEvent message_;  // gRPC's while writing, and once ended
  bool writing_ = false;
  bool sent_headers_ = false;
  bool client_is_gone_ = false;
  bool ended_ = false;  // the status is on its way: nothing may be started any more
};

}  // namespace

grpc::ServerWriteReactor<internal::SequenceEvent>* AttentionService::Generate(
    grpc::CallbackServerContext* context, const internal::SequenceRequest* request) {
  const auto stream = std::make_shared<GenerateStream>(context);  // keeps itself
  GenerationRequest generation = FromProto(*request);
  generation.deadline = DeadlineOf(*context);
  stream->Begin(engine_(), std::move(generation));
  return stream.get();
}

}  // namespace orrery
