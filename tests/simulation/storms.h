// A seed's random schedule of faults, through every world of this folder: how many members, how much is asked,
// how bad the network is, who crashes, all of it follows from the seed.
//
//   std::vector<std::string> broken = RunStorm(seed);   // promises that did not hold; empty is good
//
// The same seed gives the same storm, so a seed is a complete bug report. A fraction of a millisecond each; of
// fifty seeds one is a large storm, of some twenty.
#ifndef ORRERY_TESTS_SIMULATION_STORMS_H_
#define ORRERY_TESTS_SIMULATION_STORMS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace orrery {

// Each violation begins with the world that it happened in.
std::vector<std::string> RunStorm(uint64_t seed);

}  // namespace orrery

#endif  // ORRERY_TESTS_SIMULATION_STORMS_H_
