// Clients under way: each asks one question after the other, and compares every answer with the one of the
// undisturbed cluster.
//
//   Streams streams({.questions = &questions, .addresses = routers, .num_streams = 32});
//   ... a fault ...
//   RETURN_IF_ERROR(streams.AwaitAnswers(64, deadline));   // life goes on
//   absl::Duration pause = streams.TakeLongestPause();     // since it was last asked
//   StreamsReport report = streams.Stop();
//
// A pause is the time between two messages of one stream, or from its request to the first; or until now, where
// the next one has yet to come.
//
// Threads: one owner; each stream is a thread of its own.
#ifndef ORRERY_TOOLS_CHAOS_STREAMS_H_
#define ORRERY_TOOLS_CHAOS_STREAMS_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "tools/chaos/questions.h"

namespace orrery {

struct StreamsReport {
  int64_t num_answers = 0;               // that ended well and were compared
  int64_t num_errors = 0;                // that ended with an error
  int64_t num_differing = 0;             // that differ from the undisturbed answer
  std::vector<std::string> request_ids;  // of the answers
  // What went wrong, the first few.
  std::vector<std::string> problems;
};

class Streams {
 public:
  struct Options {
    const std::vector<Question>* questions = nullptr;  // must outlive it; not empty
    std::vector<std::string> addresses;                // of the routers
    int num_streams = 32;
    // Of one answer, every fault on its way included.
    absl::Duration timeout = absl::Minutes(2);
    // Of its time, how much a client spends with a request open: it rests after each.
    double busy_share = 1.0;
  };

  explicit Streams(const Options& options);
  ~Streams();
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  // Until so many more tokens have come, or answers have ended. DEADLINE_EXCEEDED says how many have.
  absl::Status AwaitTokens(int64_t num, absl::Time deadline);
  absl::Status AwaitAnswers(int64_t num, absl::Time deadline);
  absl::Duration TakeLongestPause();
  // How many messages have come since the start; the ends of answers are some, too.
  int64_t num_messages();
  // Asks nothing any more, and waits for what is under way: at most `timeout`. Once.
  StreamsReport Stop();

 private:
  void Run(int stream);
  // Its answer, or the error that it ended with.
  void Ask(int stream, OrreryClient& client, const Question& question);
  // One came in the stream, or its answer has ended.
  void NoteMessage(int stream);
  absl::Status Await(const int64_t& counter, int64_t num, const std::string& what,
                     absl::Time deadline);

  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Everything below is guarded by mutex_.
  bool is_stopping_ = false;
  size_t next_question_ = 0;
  StreamsReport report_;
  int64_t num_tokens_ = 0;
  int64_t num_ended_ = 0;
  absl::Duration longest_pause_;
  std::vector<absl::Time> waiting_since_;  // [stream] InfiniteFuture: it has asked nothing

  std::vector<std::thread> threads_;  // last: they use the others
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_STREAMS_H_
