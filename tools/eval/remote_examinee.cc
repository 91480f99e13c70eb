#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tools/eval/examinee.h"

namespace orrery {
namespace {

constexpr absl::Duration kAnswerTimeout = absl::Minutes(5);
// Enough to keep a few ranks busy; more would only wait in their queues.
constexpr int kNumThreads = 4;

v1::MessageRole ToProto(ChatMessage::Role role) {
  switch (role) {
    case ChatMessage::Role::kSystem:
      return v1::MESSAGE_ROLE_SYSTEM;
    case ChatMessage::Role::kUser:
      return v1::MESSAGE_ROLE_USER;
    case ChatMessage::Role::kAssistant:
      return v1::MESSAGE_ROLE_ASSISTANT;
  }
  return v1::MESSAGE_ROLE_UNSPECIFIED;
}

v1::ChatMessages ToProto(const std::vector<ChatMessage>& messages) {
  v1::ChatMessages proto;
  for (const ChatMessage& message : messages) {
    v1::ChatMessage* added = proto.add_message();
    added->set_role(ToProto(message.role));
    added->set_content(message.content);
  }
  return proto;
}

class RemoteExaminee : public Examinee {
 public:
  explicit RemoteExaminee(OrreryClient client) : client_(std::move(client)) {}

  absl::StatusOr<ExamAnswer> Ask(const Problem& problem, int max_new_tokens) override {
    ExamAnswer answer;
    v1::TokenizeRequest tokenize;
    *tokenize.mutable_messages() = ToProto(problem.messages);
    ASSIGN_OR_RETURN(answer.prompt_ids, client_.Tokenize(tokenize));
    v1::GenerateRequest request;
    *request.mutable_messages() = ToProto(problem.messages);
    request.set_max_new_tokens(max_new_tokens);
    request.set_logprobs(true);
    ASSIGN_OR_RETURN(Answer generated, client_.Generate(request, kAnswerTimeout));
    answer.ids = std::move(generated.ids);
    answer.logprobs = std::move(generated.logprobs);
    answer.content = std::string(absl::StripAsciiWhitespace(generated.content));
    answer.is_finished = generated.finished.reason() == v1::FINISH_REASON_STOP;
    return answer;
  }

  int num_threads() const override { return kNumThreads; }
  std::string Describe() const override {
    return absl::StrCat("the cluster behind ", client_.address());
  }

 private:
  OrreryClient client_;
};

}  // namespace

std::unique_ptr<Examinee> MakeRemoteExaminee(OrreryClient client) {
  return std::make_unique<RemoteExaminee>(std::move(client));
}

}  // namespace orrery
