// For tests of the service over real gRPC: a router on a port, and two attention ranks that follow a
// script.
//
//   TEST_F(RouterServiceTest, Says15) {
//     ranks_[0].script = Gives(TinyIds("15"), internal::END_REASON_STOP);
//     EXPECT_EQ(Generate(Question()).content, "15");
//   }
#ifndef ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_FIXTURE_H_
#define ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_FIXTURE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/refusal_times.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "rpc/channel.h"
#include "rpc/deadline.h"
#include "rpc/server.h"
#include "rpc/status.h"
#include "services/router/router_service.h"
#include "services/router/tiny_model.h"

namespace orrery {

inline constexpr absl::Duration kPatience = absl::Seconds(30);

// What a script writes to. It numbers the tokens of each choice, from behind those that a replay brings.
class Writer {
 public:
  Writer(const internal::SequenceRequest& request,
         grpc::ServerWriter<internal::SequenceEvent>* writer)
      : writer_(writer) {
    for (int k = 0; k < request.so_far_size(); ++k) next_index_[k] = request.so_far(k).id_size();
  }
  // The next token that it writes is this one of its choice.
  void GoTo(int choice, int index) { next_index_[choice] = index; }
  void Write(internal::SequenceEvent event) {
    if (event.has_token()) event.mutable_token()->set_index(next_index_[event.token().choice()]++);
    writer_->Write(event);
  }

 private:
  grpc::ServerWriter<internal::SequenceEvent>* const writer_;
  std::map<int, int> next_index_;
};
using Script =
    std::function<grpc::Status(grpc::ServerContext&, const internal::SequenceRequest&, Writer&)>;

inline ServerOptions AnyPort() {
  ServerOptions options;
  options.address = "127.0.0.1:0";
  return options;
}

class FakeRank : public internal::Attention::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const internal::SequenceRequest* request,
                        grpc::ServerWriter<internal::SequenceEvent>* stream) override {
    Writer writer(*request, stream);
    return script(*context, *request, writer);
  }
  Script script;
};

inline void WriteToken(Writer& writer, int32_t id) {
  internal::SequenceEvent event;
  event.mutable_token()->set_id(id);
  event.mutable_token()->set_logprob(-0.25f);
  internal::IdLogprob& top = *event.mutable_token()->add_top();
  top.set_id(TinyByteId('z'));
  top.set_logprob(-1.5f);
  writer.Write(event);
}

inline void WriteToken(Writer& writer, int32_t id, int choice, std::optional<int> text_bytes = {}) {
  internal::SequenceEvent event;
  event.mutable_token()->set_id(id);
  event.mutable_token()->set_choice(choice);
  if (text_bytes.has_value()) event.mutable_token()->set_text_bytes(*text_bytes);
  writer.Write(event);
}

inline void WriteEnd(Writer& writer, int choice, internal::EndReason reason,
                     const std::string& stop_string = "") {
  internal::SequenceEvent event;
  internal::SequenceEnd& end = *event.mutable_end();
  end.set_choice(choice);
  end.set_reason(reason);
  end.set_stop_string(stop_string);
  end.set_prompt_tokens(6);
  end.set_output_tokens(10 + choice);
  end.set_cached_prompt_tokens(4);
  end.set_drafted_tokens(8);
  end.set_accepted_draft_tokens(7);
  writer.Write(event);
}

// A rank that gives these ids and ends.
inline Script Gives(const std::vector<int32_t>& ids, internal::EndReason reason) {
  return [=](grpc::ServerContext&, const internal::SequenceRequest& request, Writer& writer) {
    for (const int32_t id : ids) WriteToken(writer, id);
    internal::SequenceEvent event;
    event.mutable_end()->set_reason(reason);
    event.mutable_end()->set_prompt_tokens(request.prompt_ids_size());
    event.mutable_end()->set_output_tokens(static_cast<int>(ids.size()));
    writer.Write(event);
    return grpc::Status::OK;
  };
}

// A rank that gives these ids and then fails.
inline Script Fails(const std::vector<int32_t>& ids, grpc::StatusCode code) {
  return [=](grpc::ServerContext&, const internal::SequenceRequest&, Writer& writer) {
    for (const int32_t id : ids) WriteToken(writer, id);
    return grpc::Status(code, "as the script says");
  };
}

struct Heard {
  grpc::Status status;
  std::optional<absl::Duration> retry_after;
  v1::Started started;
  std::vector<v1::Delta> deltas;
  v1::Finished finished;  // the last one
  std::string reasoning, content;
  // Of each choice: its text, and its end.
  std::map<int, std::string> texts;
  std::map<int, v1::Finished> ends;
};

class RouterServiceTest : public ::testing::Test {
 protected:
  struct Setup {
    int max_context_tokens = 100;
    RouterService::Options service = {.self = {internal::ROLE_ROUTER, "router-0", "h:0"}};
  };

  RouterServiceTest() : RouterServiceTest(Setup()) {}
  explicit RouterServiceTest(const Setup& setup)
      : setup_(setup),
        model_(MakeTinyModel({.max_context_tokens = setup.max_context_tokens})),
        state_(RouterCore({.max_open_requests = 512},
                          Membership({{internal::ROLE_ATTENTION, "attention-0", "h:1"},
                                      {internal::ROLE_ATTENTION, "attention-1", "h:2"}},
                                     model_.fingerprint))) {}

  void SetUp() override {
    RouterService::RankChannels channels;
    for (int i = 0; i < 2; ++i) {
      auto server = Server::Start(AnyPort(), {rank_service(i)});
      ASSERT_TRUE(server.ok()) << server.status();
      rank_servers_.push_back(*std::move(server));
      channels[i] = MemberChannel::Make(rank_servers_[i]->address(), {}).value();
      SayReady(i);
    }
    service_ = std::make_unique<RouterService>(setup_.service, &model_, &state_, channels);
    auto server = Server::Start(AnyPort(), {service_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    router_server_ = *std::move(server);
    channel_ = MakeChannel(router_server_->address(), {}).value();
    stub_ = v1::Orrery::NewStub(channel_);
  }

  void TearDown() override {
    // Before what they serve, some of which belongs to derived classes.
    router_server_.reset();
    rank_servers_.clear();
  }

  // What listens as rank `i`.
  virtual grpc::Service* rank_service(int i) { return &ranks_[i]; }

  void SayReady(int rank) {
    internal::MemberDescription description;
    description.set_name(absl::StrCat("attention-", rank));
    description.set_role(internal::ROLE_ATTENTION);
    description.set_state(internal::MEMBER_STATE_READY);
    description.mutable_fingerprint()->set_config_hash("c0");
    state_.With([&](RouterCore& core) { core.OnDescription(rank, description); });
  }

  Heard Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context, absl::Now() + kPatience);
    Heard heard;
    const auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      if (response.has_started()) heard.started = response.started();
      if (response.has_finished()) {
        heard.finished = response.finished();
        EXPECT_TRUE(heard.ends.emplace(heard.finished.choice(), heard.finished).second);
      }
      if (!response.has_delta()) continue;
      heard.deltas.push_back(response.delta());
      heard.texts[response.delta().choice()] += response.delta().text();
      (response.delta().kind() == v1::DELTA_KIND_REASONING ? heard.reasoning : heard.content) +=
          response.delta().text();
    }
    heard.status = reader->Finish();
    heard.retry_after = RetryAfterOf(FromGrpcStatus(heard.status, context));
    return heard;
  }

  int NumOpenRequests() {
    return state_.With([](RouterCore& core) { return core.num_open_requests(); });
  }

  static v1::GenerateRequest Question() {
    v1::GenerateRequest request;
    v1::ChatMessage& message = *request.mutable_messages()->add_message();
    message.set_role(v1::MESSAGE_ROLE_USER);
    message.set_content("7+8?");
    return request;
  }

  const Setup setup_;
  ServedModel model_;
  RouterState state_;
  FakeRank ranks_[2];
  std::vector<std::unique_ptr<Server>> rank_servers_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<Server> router_server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Orrery::Stub> stub_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_ROUTER_SERVICE_FIXTURE_H_
