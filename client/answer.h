// A finished request as a client has it.
#ifndef ORRERY_CLIENT_ANSWER_H_
#define ORRERY_CLIENT_ANSWER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/orrery.pb.h"

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

// It is its first choice, since most have no other.
struct Answer : Choice {
  v1::Started started;
  // Choices 1 and up, where num_choices asked for them.
  std::vector<Choice> others;

  int num_choices() const { return 1 + static_cast<int>(others.size()); }
  const Choice& choice(int index) const { return index == 0 ? *this : others[index - 1]; }
};

}  // namespace orrery

#endif  // ORRERY_CLIENT_ANSWER_H_
