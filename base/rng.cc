#include "base/rng.h"

#include <algorithm>
#include <bit>

namespace orrery {

double PortableLog(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xfffffffffffffull) | (1023ull << 52));  // [1, 2)
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  // log(m) = 2 atanh(s), s = (m-1)/(m+1), |s| <= 0.1716: the term s^25/25 is below 1e-20.
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double s2 = s * s;
  double sum = 0.0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
  return exponent * 0.6931471805599453 + 2.0 * s * sum;
}

double UniformDraw(const DrawKey& key) {
  uint32_t c0 = key.draw, c1 = key.position, c2 = key.choice, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  const uint64_t bits = (uint64_t{c0} << 32 | c1) >> 11;  // 53 bits
  // The largest would round up to 1.
  return std::min((static_cast<double>(bits) + 0.5) * 0x1p-53, 1.0 - 0x1p-53);
}

double GumbelDraw(const DrawKey& key) { return -PortableLog(-PortableLog(UniformDraw(key))); }

}  // namespace orrery
