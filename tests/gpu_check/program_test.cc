// gpu_check as it is built for a GPU machine: it stands alone, is small enough to carry, and says so when there is no GPU.
#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/gpu_check/run_program.h"

namespace orrery {
namespace {

constexpr char kProgram[] = "tests/gpu_check/gpu_check";
constexpr size_t kMaxBytes = size_t{64} << 20;

std::string ReadProgram() {
  std::ifstream file(kProgram, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

template <typename T>
T At(const std::string& bytes, size_t offset) {
  T value = {};
  if (offset + sizeof(T) <= bytes.size()) std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// The shared libraries that an ELF file needs (its dynamic section).
std::set<std::string> Needed(const std::string& bytes) {
  const auto header = At<Elf64_Ehdr>(bytes, 0);
  std::set<std::string> names;
  for (int i = 0; i < header.e_shnum; ++i) {
    const auto section = At<Elf64_Shdr>(bytes, header.e_shoff + i * sizeof(Elf64_Shdr));
    if (section.sh_type != SHT_DYNAMIC) continue;
    const auto strings =
        At<Elf64_Shdr>(bytes, header.e_shoff + section.sh_link * sizeof(Elf64_Shdr));
    for (size_t at = 0; at < section.sh_size; at += sizeof(Elf64_Dyn)) {
      const auto entry = At<Elf64_Dyn>(bytes, section.sh_offset + at);
      if (entry.d_tag == DT_NEEDED) {
        names.insert(bytes.c_str() + strings.sh_offset + entry.d_un.d_val);
      }
    }
  }
  return names;
}

TEST(GpuCheckProgram, NeedsNothingButTheCLibraryAndIsSmall) {
  const std::string bytes = ReadProgram();
  ASSERT_GT(bytes.size(), 0u);
  EXPECT_LT(bytes.size(), kMaxBytes);
  for (const std::string& name : Needed(bytes)) {
    EXPECT_TRUE(name == "libc.so.6" || name == "libm.so.6" || name == "ld-linux-x86-64.so.2")
        << name;
  }
  EXPECT_EQ(Needed(bytes).count("libc.so.6"), 1u);
}

TEST(GpuCheckProgram, SaysSoWhereNoGpuIs) {
  const Ran ran = RunProgram({kProgram, "--parts=All/Gate"});
  if (ran.code == 0) GTEST_SKIP() << "SKIPPED, nothing was tested: here is a GPU";
  EXPECT_EQ(ran.code, 1) << ran.output;
  EXPECT_TRUE(absl::StrContains(ran.output, "gpu_check: no CUDA device: ")) << ran.output;
}

}  // namespace
}  // namespace orrery
