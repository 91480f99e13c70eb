// The two halves of reading a cluster file, apart from each other so that each can be read on one
// screen: the text (syntax, unknown fields, types) and the meaning (names, addresses, limits). Both
// add to one list.
//
// Internal to rpc/cluster_file.
#ifndef ORRERY_RPC_CLUSTER_FILE_PROBLEMS_H_
#define ORRERY_RPC_CLUSTER_FILE_PROBLEMS_H_

#include <memory>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "proto/cluster.pb.h"

namespace orrery {

// Something wrong at a place of the file. Line and column count from 0, as protobuf counts.
struct FileProblem {
  int line = 0;
  int column = 0;
  std::string message;
};

struct ParsedClusterText {
  internal::ClusterFile cluster;
  std::unique_ptr<google::protobuf::TextFormat::ParseInfoTree> places;
  // Whether parts of the text had to be left out: then what seems to be missing may be in them.
  bool incomplete = false;
};

// Parses as much as it can: after a mistake it goes on behind it, so that the others are found as
// well.
void ParseClusterText(const std::string& text, ParsedClusterText& parsed,
                      std::vector<FileProblem>& problems);

// The most rows of a step, whatever the file says.
inline constexpr int kMaxStepRows = 1 << 16;

// The defaults that proto/cluster.proto states. Rows of a step and running sequences depend on each other:
// the one that is not given follows the other. Those given must be in range.
void FillLimitDefaults(internal::Limits& limits);

// How many of these members the cluster needs: those that are neither spares nor retiring.
template <typename Members>
int NumNeeded(const Members& members) {
  int num_needed = 0;
  for (const internal::ClusterMember& member : members) {
    num_needed += !member.spare() && !member.retiring();
  }
  return num_needed;
}

// Checks what the text says.
void CheckClusterMeaning(const ParsedClusterText& parsed, std::vector<FileProblem>& problems);

}  // namespace orrery

#endif  // ORRERY_RPC_CLUSTER_FILE_PROBLEMS_H_
