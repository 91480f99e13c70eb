// Draws that depend on their key alone: the same (seed, choice, position, draw) gives the same
// number on every machine and in every batch. Philox 4x32-10 (Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", 2011).
//
//   double noise = GumbelDraw({.seed = 7, .choice = 0, .position = 12, .draw = token_id});
#ifndef ORRERY_BASE_RNG_H_
#define ORRERY_BASE_RNG_H_

#include <cstdint>

namespace orrery {

struct DrawKey {
  uint64_t seed = 0;
  uint32_t choice = 0;    // of the n answers of a request
  uint32_t position = 0;  // of the token in its sequence
  uint32_t draw = 0;      // numbers the draws at one position
};

// Uniform in (0, 1), 53 bits, never 0 or 1.
double UniformDraw(const DrawKey& key);

// Standard Gumbel noise, -log(-log(u)). The index of the largest (log-probability + noise) is
// distributed like the probabilities, so a sampler needs no sum and no sort.
double GumbelDraw(const DrawKey& key);

// Natural logarithm of a normal positive number from basic operations only, so that no math library
// changes a bit; relative error below 1e-15 away from 1.
double PortableLog(double x);

}  // namespace orrery

#endif  // ORRERY_BASE_RNG_H_
