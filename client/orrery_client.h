// The C++ client of a cluster: proto/orrery.proto with absl::Status, deadlines and a callback per
// token.
//
//   ASSIGN_OR_RETURN(OrreryClient client,
//                    OrreryClient::Connect("127.0.0.1:7400", {}, absl::Seconds(5)));
//   const auto print = [](const v1::Delta& delta) { Print(delta.text()); return true; };
//   ASSIGN_OR_RETURN(Answer answer, client.Generate(request, absl::Minutes(5), print));
//
// One router for now; resuming an answer at another router does not exist yet.
//
// Errors: those that proto/orrery.proto lists, with the router's messages; UNAVAILABLE if nobody
// listens at the address; INTERNAL for a stream that breaks the contract. Texts that are not UTF-8
// are refused here already, with the position. Threads: safe for concurrent use; callbacks run in
// the calling thread.
#ifndef ORRERY_CLIENT_ORRERY_CLIENT_H_
#define ORRERY_CLIENT_ORRERY_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "proto/orrery.grpc.pb.h"
#include "rpc/credentials.h"

namespace orrery {

// One of the answers to a request.
struct Choice {
  std::vector<int32_t> ids;
  // As asked for with logprobs; one per id, or none.
  std::vector<float> logprobs;
  // As asked for with num_top_logprobs; one list per id, or none.
  std::vector<std::vector<v1::TokenLogprob>> top;
  std::string reasoning;
  std::string content;
  v1::Finished finished;
};

// A finished request. It is its first choice, since most have no other.
struct Answer : Choice {
  v1::Started started;
  // Choices 1 and up, where num_choices asked for them.
  std::vector<Choice> others;

  int num_choices() const { return 1 + static_cast<int>(others.size()); }
  const Choice& choice(int index) const { return index == 0 ? *this : others[index - 1]; }
};

class OrreryClient {
 public:
  // Called for every token, those of several choices mixed (see v1::Delta.choice); returning false
  // cancels the request, which then ends with CANCELLED.
  using OnDelta = std::function<bool(const v1::Delta&)>;

  // Waits until the router is connected or turns out not to be there, at most `timeout`.
  static absl::StatusOr<OrreryClient> Connect(const std::string& address, const TlsFiles& tls,
                                              absl::Duration timeout);

  // `on_delta` may be empty.
  absl::StatusOr<Answer> Generate(const v1::GenerateRequest& request, absl::Duration timeout,
                                  const OnDelta& on_delta = {});

  absl::StatusOr<std::vector<int32_t>> Tokenize(const v1::TokenizeRequest& request);
  absl::StatusOr<std::string> Detokenize(absl::Span<const int32_t> ids);
  absl::StatusOr<v1::ListModelsResponse> ListModels();
  absl::StatusOr<v1::ClusterStatusResponse> ClusterStatus();

  const std::string& address() const { return address_; }

 private:
  OrreryClient(std::string address, std::unique_ptr<v1::Orrery::Stub> stub);

  std::string address_;
  std::unique_ptr<v1::Orrery::Stub> stub_;
};

// The byte offset of the first byte that is not UTF-8; -1 if there is none.
int64_t FindInvalidUtf8(const std::string& text);

}  // namespace orrery

#endif  // ORRERY_CLIENT_ORRERY_CLIENT_H_
