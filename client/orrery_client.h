// The C++ client of a cluster: proto/orrery.proto with absl::Status, deadlines and a callback per
// token, from whichever router answers.
//
//   ASSIGN_OR_RETURN(OrreryClient client,
//                    OrreryClient::Connect({"10.0.0.1:7400", "10.0.0.2:7400"}, tls, absl::Seconds(5)));
//   const auto print = [](const v1::Delta& delta) { Print(delta.text()); return true; };
//   ASSIGN_OR_RETURN(Answer answer, client.Generate(request, absl::Minutes(5), print));
//
// `tls`: files of the client, with .peers = {"spiffe://orrery/router"} (rpc/credentials.h); {} for plain text.
//
// A call goes to the router that answered last. When that one is gone, the others are tried at once, each
// once; an answer that has started is then resumed, with growing pauses, until its deadline, its attempts
// or the retry budget is used up. The callback sees one answer: each token once, and none left out.
//
// Errors: those that proto/orrery.proto lists, with the router's messages; UNAVAILABLE if nobody
// listens at the addresses; INTERNAL for a stream that breaks the contract. Texts that are not UTF-8
// are refused here already, with the position. Threads: safe for concurrent use; callbacks and pauses run
// in the calling thread.
#ifndef ORRERY_CLIENT_ORRERY_CLIENT_H_
#define ORRERY_CLIENT_ORRERY_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/status.h"
#include "client/answer.h"
#include "client/retry.h"
#include "proto/orrery.pb.h"
#include "rpc/credentials.h"

namespace orrery {

struct RetryOptions {
  Backoff backoff = {};
  // Streams that may break in a row, without anything received in between.
  int max_attempts = 25;
  // See RetryBudget.
  int budget = 1000;
  // Keys the draws of pauses; 0: another one for each client.
  uint64_t seed = 0;
  // For tests: what time it is, and how it passes. Null and empty: the machine's.
  const Clock* clock = nullptr;
  std::function<void(absl::Duration)> pause = {};
};

class OrreryClient {
 public:
  // Called for every token, those of several choices mixed (see v1::Delta.choice); returning false
  // cancels the request, which then ends with CANCELLED.
  using OnDelta = std::function<bool(const v1::Delta&)>;

  // Of one cluster, at least one. Waits until a router is connected or all turn out not to be there, at
  // most `timeout`.
  static absl::StatusOr<OrreryClient> Connect(const std::vector<std::string>& addresses,
                                              const TlsFiles& tls, absl::Duration timeout,
                                              const RetryOptions& retry = {});
  OrreryClient(OrreryClient&&);
  OrreryClient& operator=(OrreryClient&&);
  ~OrreryClient();

  // `on_delta` may be empty. RESOURCE_EXHAUSTED is not tried again: RetryAfterOf(status) (base/refusal_times.h)
  // says when that is worth its while.
  absl::StatusOr<Answer> Generate(const v1::GenerateRequest& request, absl::Duration timeout,
                                  const OnDelta& on_delta = {});

  absl::StatusOr<std::vector<int32_t>> Tokenize(const v1::TokenizeRequest& request);
  absl::StatusOr<std::string> Detokenize(absl::Span<const int32_t> ids);
  absl::StatusOr<v1::ListModelsResponse> ListModels();
  absl::StatusOr<v1::ClusterStatusResponse> ClusterStatus();

  // Of the router that answered last.
  const std::string& address() const;

 private:
  class Routers;
  explicit OrreryClient(std::unique_ptr<Routers> routers);

  std::unique_ptr<Routers> routers_;
};

// The byte offset of the first byte that is not UTF-8; -1 if there is none.
int64_t FindInvalidUtf8(const std::string& text);

}  // namespace orrery

#endif  // ORRERY_CLIENT_ORRERY_CLIENT_H_
