// A seed's random schedule of faults, through every world of this folder: how many members, how much is asked,
// how bad the network is, who crashes, all of it follows from the seed.
//
//   StormReport report = RunStorm(seed);
//   report.broken        // promises that did not hold; empty is good
//   report.happened      // {"rank crashes": 3, ...}: a storm in which nothing happens proves nothing
//
// The same seed gives the same storm, so a seed is a complete bug report. A fraction of a millisecond each; of
// fifty seeds one is a large storm, of some twenty.
#ifndef ORRERY_TESTS_SIMULATION_STORMS_H_
#define ORRERY_TESTS_SIMULATION_STORMS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace orrery {

struct StormReport {
  std::vector<std::string> broken;  // each begins with the world that it happened in
  std::map<std::string, int64_t> happened;
};
StormReport RunStorm(uint64_t seed);

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_STORMS_H_
