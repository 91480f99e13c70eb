#include "base/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace orrery {
namespace {

constexpr uint32_t kReversedPolynomial = 0x82f63b78;

constexpr uint32_t StepOneByte(uint32_t crc) {
  for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversedPolynomial : 0);
  return crc;
}

constexpr std::array<uint32_t, 256> MakeByteTable() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < 256; ++byte) table[byte] = StepOneByte(byte);
  return table;
}
constexpr std::array<uint32_t, 256> kByteTable = MakeByteTable();

#if defined(__x86_64__)

// The instruction takes three cycles, and one may start in each: three lanes side by side.
constexpr size_t kLaneBytes = 256;

// What kLaneBytes zeros make of a register, by its four bytes: the register is linear in them.
constexpr std::array<std::array<uint32_t, 256>, 4> MakeShiftTable() {
  std::array<uint32_t, 32> of_bit = {};
  for (int bit = 0; bit < 32; ++bit) {
    uint32_t crc = uint32_t{1} << bit;
    for (size_t i = 0; i < kLaneBytes; ++i) crc = (crc >> 8) ^ kByteTable[crc & 0xff];
    of_bit[bit] = crc;
  }
  std::array<std::array<uint32_t, 256>, 4> table = {};
  for (int place = 0; place < 4; ++place) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      for (int bit = 0; bit < 8; ++bit) {
        if ((byte >> bit & 1) != 0) table[place][byte] ^= of_bit[8 * place + bit];
      }
    }
  }
  return table;
}
constexpr std::array<std::array<uint32_t, 256>, 4> kShiftTable = MakeShiftTable();

uint32_t ShiftOneLane(uint64_t crc) {
  return kShiftTable[0][crc & 0xff] ^ kShiftTable[1][crc >> 8 & 0xff] ^
         kShiftTable[2][crc >> 16 & 0xff] ^ kShiftTable[3][crc >> 24 & 0xff];
}

uint64_t Load64(const char* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

__attribute__((target("sse4.2"))) uint32_t Crc32cSse42(std::string_view bytes) {
  const char* next = bytes.data();
  size_t left = bytes.size();
  uint64_t crc = 0xffffffff;
  while (left >= 3 * kLaneBytes) {
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < kLaneBytes; i += 8) {
      crc = _mm_crc32_u64(crc, Load64(next + i));
      second = _mm_crc32_u64(second, Load64(next + kLaneBytes + i));
      third = _mm_crc32_u64(third, Load64(next + 2 * kLaneBytes + i));
    }
    crc = ShiftOneLane(ShiftOneLane(crc) ^ second) ^ third;
    next += 3 * kLaneBytes;
    left -= 3 * kLaneBytes;
  }
  for (; left >= 8; left -= 8, next += 8) crc = _mm_crc32_u64(crc, Load64(next));
  for (; left > 0; --left, ++next) {
    crc = _mm_crc32_u8(static_cast<uint32_t>(crc), static_cast<unsigned char>(*next));
  }
  return ~static_cast<uint32_t>(crc);
}

bool HasSse42() {
  static const bool has = __builtin_cpu_supports("sse4.2") != 0;
  return has;
}

#endif

}  // namespace

uint32_t internal::Crc32cPortable(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc = (crc >> 8) ^ kByteTable[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
  }
  return ~crc;
}

uint32_t Crc32c(std::string_view bytes) {
#if defined(__x86_64__)
  if (HasSse42()) return Crc32cSse42(bytes);
#endif
  return internal::Crc32cPortable(bytes);
}

}  // namespace orrery
