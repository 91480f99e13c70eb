// A store that is written, read, interrupted and gone on with.
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/store/packed_store.h"
#include "checkpoint/store/record_hash.h"
#include "checkpoint/store/store_reader.h"
#include "checkpoint/store/store_writer.h"
#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const StoreIdentity kIdentity = {
    .numerics_id = "x86-1 act=bf16", .config_hash = "c0", .sources = {{"a.safetensors", "5a"}}};

std::vector<std::byte> Noise(size_t num_bytes, int seed) {
  std::vector<std::byte> bytes(num_bytes);
  uint32_t state = seed;
  for (std::byte& byte : bytes) byte = static_cast<std::byte>((state = state * 1664525u + 7) >> 24);
  return bytes;
}

std::vector<std::byte> Copy(absl::Span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

std::unique_ptr<StoreWriter> MustOpen(const std::string& dir, const StoreIdentity& identity,
                                      std::vector<std::string>* kept = nullptr) {
  auto writer = StoreWriter::Open(dir, identity, [kept](const StoreRecord& record) {
    if (kept != nullptr) kept->push_back(record.key);
  });
  EXPECT_TRUE(writer.ok()) << writer.status();
  return *std::move(writer);
}

void MustAdd(StoreWriter& writer, const std::string& key, const std::vector<std::byte>& bytes) {
  const absl::Status added = writer.Add(key, {{.name = key, .bytes = bytes}});
  ASSERT_TRUE(added.ok()) << added;
}

TEST(Store, GivesBackWhatWasWritten) {
  const std::string dir = MakeTempDir() + "/deep/store";
  // Of several chunks, of an odd size, and of nothing.
  const std::vector<std::byte> large = Noise(2 * kChunkBytes + 12345, 1), odd = Noise(7, 2);
  {
    const auto writer = MustOpen(dir, kIdentity);
    ASSERT_TRUE(writer->Add("one", {{"large", large}, {"odd", odd}, {"empty", {}}}).ok());
    MustAdd(*writer, "two", odd);
    EXPECT_TRUE(writer->Has("two"));
    ASSERT_TRUE(writer->Finish({{"a.safetensors", "f1"}}).ok());
  }
  const auto store = PackedStore::Open(dir);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(store->identity(), kIdentity);
  EXPECT_EQ(store->index().file_hashes.at("a.safetensors"), "f1");
  std::atomic<int64_t> bytes_read = 0;
  StoreReader reader(&*store, {"two", "one", "two"}, &bytes_read);
  const auto one = reader.Take("one");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(Copy(one->Part("large")), large);
  EXPECT_EQ(Copy(one->Part("odd")), odd);
  EXPECT_TRUE(one->Part("empty").empty());
  EXPECT_TRUE(one->Part("missing").empty());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(one->Part("odd").data()) % kPartAlignment, 0u);
  const auto two = reader.Take("two");
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(Copy(two->Part("two")), odd);
  EXPECT_EQ(bytes_read, store->num_bytes());
}

TEST(Store, HasNoOtherRecordsAndGivesEachOnce) {
  const std::string dir = MakeTempDir();
  const auto writer = MustOpen(dir, kIdentity);
  MustAdd(*writer, "one", Noise(10, 1));
  ASSERT_TRUE(writer->Finish({}).ok());
  const auto store = PackedStore::Open(dir);
  ASSERT_TRUE(store.ok()) << store.status();
  std::atomic<int64_t> bytes_read = 0;
  StoreReader reader(&*store, {"one", "seven"}, &bytes_read);
  const absl::Status missing = reader.Take("seven").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("seven"));
  EXPECT_TRUE(reader.Take("one").ok());
  EXPECT_FALSE(reader.Take("one").ok());
}

TEST(Store, IsNoneBeforeItIsFinished) {
  const std::string dir = MakeTempDir();
  const auto writer = MustOpen(dir, kIdentity);
  MustAdd(*writer, "one", Noise(10, 1));
  EXPECT_FALSE(HasPackedStore(dir));
  EXPECT_EQ(PackedStore::Open(dir).status().code(), absl::StatusCode::kNotFound);
}

TEST(Store, IsWrittenByOneAtATime) {
  const std::string dir = MakeTempDir();
  const auto writer = MustOpen(dir, kIdentity);
  const absl::Status second = StoreWriter::Open(dir, kIdentity, nullptr).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition) << second;
}

TEST(Store, GoesOnAfterTheLastRecordThatIsWhole) {
  const std::string dir = MakeTempDir();
  const std::string records = JoinPath(dir, kRecordsFile);
  {
    const auto writer = MustOpen(dir, kIdentity);
    for (const char* key : {"one", "two", "three"}) MustAdd(*writer, key, Noise(5000, 1));
  }
  std::filesystem::resize_file(records, std::filesystem::file_size(records) - 1);
  std::vector<std::string> kept;
  {
    const auto writer = MustOpen(dir, kIdentity, &kept);
    EXPECT_THAT(kept, ElementsAre("one", "two"));
    EXPECT_TRUE(writer->Has("two"));
    EXPECT_FALSE(writer->Has("three"));
    MustAdd(*writer, "three", Noise(6000, 3));
  }
  // A line that was cut off counts for nothing.
  const std::string journal = JoinPath(dir, kJournalFile);
  std::filesystem::resize_file(journal, std::filesystem::file_size(journal) - 3);
  kept.clear();
  const auto writer = MustOpen(dir, kIdentity, &kept);
  EXPECT_THAT(kept, ElementsAre("one", "two"));
  MustAdd(*writer, "three", Noise(6000, 3));
  ASSERT_TRUE(writer->Finish({}).ok());
  const auto store = PackedStore::Open(dir);
  ASSERT_TRUE(store.ok()) << store.status();
  std::atomic<int64_t> bytes_read = 0;
  StoreReader reader(&*store, {"one", "two", "three"}, &bytes_read);
  for (const char* key : {"one", "two", "three"}) EXPECT_TRUE(reader.Take(key).ok()) << key;
}

TEST(Store, OfAnotherIdentityStartsAnew) {
  const std::string dir = MakeTempDir();
  { MustAdd(*MustOpen(dir, kIdentity), "one", Noise(10, 1)); }
  StoreIdentity other = kIdentity;
  other.sources["a.safetensors"] = "5b";
  std::vector<std::string> kept;
  const auto writer = MustOpen(dir, other, &kept);
  EXPECT_TRUE(kept.empty());
  EXPECT_FALSE(writer->Has("one"));
}

TEST(SampleHash, TellsFilesOfOneSizeApart) {
  const std::string dir = MakeTempDir();
  const auto hash = [&](const std::string& content) {
    const auto sample = SampleHash(WriteTempFile(dir, "f", content));
    EXPECT_TRUE(sample.ok()) << sample.status();
    return sample.value_or("");
  };
  std::string text(1000000, 'a');
  const std::string first = hash(text);
  EXPECT_EQ(hash(text), first);
  text.back() = 'b';
  EXPECT_NE(hash(text), first);
  EXPECT_NE(hash("a"), hash("b"));
  EXPECT_NE(hash(""), hash("a"));
  EXPECT_FALSE(SampleHash(dir + "/none").ok());
}

}  // namespace
}  // namespace orrery
