// Whatever stands in the files of a store, opening and reading it ends with an answer or an error:
// never a crash, a hang, or bytes that are not what was written (run under --config=asan this shows
// that nothing is read outside, too). A store that is right is damaged at random, with a fixed seed.
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/store/packed_store.h"
#include "checkpoint/store/store_reader.h"
#include "checkpoint/store/store_writer.h"
#include "checkpoint/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

class DamagedStore : public ::testing::Test {
 protected:
  void SetUp() override {
    auto writer =
        StoreWriter::Open(dir_, {.numerics_id = "n", .config_hash = "c", .sources = {}}, nullptr);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const std::string& key : keys_) {
      ASSERT_TRUE((*writer)->Add(key, {{"p", Bytes()}, {"q", Bytes()}}).ok());
    }
    ASSERT_TRUE((*writer)->Finish({{"f", "h"}}).ok());
    index_ = ReadTextFile(JoinPath(dir_, kIndexFile));
    records_ = ReadTextFile(JoinPath(dir_, kRecordsFile));
  }
  absl::Span<const std::byte> Bytes() const {
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text_.data()), text_.size());
  }

  // Opens the store and reads all it has; whether both went well.
  absl::Status Read() {
    ASSIGN_OR_RETURN(const PackedStore store, PackedStore::Open(dir_));
    std::vector<std::string> keys = keys_;
    for (const StoreRecord& record : store.index().records) keys.push_back(record.key);
    std::atomic<int64_t> bytes_read = 0;
    StoreReader reader(&store, keys, &bytes_read);
    for (const std::string& key : keys_) {
      ASSIGN_OR_RETURN(const StoredRecord record, reader.Take(key));
      for (const char* name : {"p", "q"}) {
        const absl::Span<const std::byte> part = record.Part(name);
        if (part.empty()) return absl::NotFoundError(name);
        EXPECT_EQ(std::vector<std::byte>(part.begin(), part.end()),
                  std::vector<std::byte>(Bytes().begin(), Bytes().end()));
      }
    }
    return absl::OkStatus();
  }

  const std::string dir_ = MakeTempDir();
  const std::vector<std::string> keys_ = {"one", "two", "three"};
  const std::string text_ = std::string(5000, 't');
  std::string index_;
  std::string records_;
};

TEST_F(DamagedStore, IsReadWhenItIsWhole) {
  const absl::Status read = Read();
  EXPECT_TRUE(read.ok()) << read;
}

TEST_F(DamagedStore, AnIndexIsReadOrRefused) {
  std::mt19937 random(42);
  const std::string pieces[] = {"0",  "-1",   "4096", "1e99",    "18446744073709551615",
                                "\"", "[",    "{",    "}",       ",",
                                "\n", "null", "two",  "\\u0000", "9007199254740993"};
  for (int round = 0; round < 500; ++round) {
    std::string text = index_;
    const size_t position = random() % text.size();
    const size_t length = std::min<size_t>(1 + random() % 8, text.size() - position);
    switch (random() % 4) {
      case 0:
        text[position] = static_cast<char>(random());
        break;
      case 1:
        text.erase(position, length);
        break;
      case 2:
        text.resize(position);
        break;
      default:
        text.replace(position, length, pieces[random() % std::size(pieces)]);
    }
    if (text == index_) continue;
    WriteTempFile(dir_, kIndexFile, text);
    EXPECT_FALSE(Read().ok()) << "its hash should show it: " << text;
    // Where the index is a journal yet, nothing but its lines tells.
    const auto journal = ParseStoreJournal(text, "journal");
    if (!journal.ok()) continue;
    int64_t end = 0;
    for (const StoreRecord& record : journal->records) {
      EXPECT_EQ(record.offset, end);
      end += record.num_bytes;
      for (const StorePart& part : record.parts) {
        EXPECT_LE(part.offset + part.num_bytes, record.num_bytes);
      }
    }
  }
}

TEST_F(DamagedStore, ARecordWithAnotherByteIsRefusedByItsName) {
  std::mt19937 random(42);
  for (int round = 0; round < 50; ++round) {
    std::string damaged = records_;
    damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
    WriteTempFile(dir_, kRecordsFile, damaged);
    const absl::Status read = Read();
    EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss) << read;
    EXPECT_THAT(std::string(read.message()), HasSubstr("checksum"));
  }
}

TEST_F(DamagedStore, RecordsThatWereCutOffAreRefused) {
  WriteTempFile(dir_, kRecordsFile, records_.substr(0, records_.size() - 1));
  const absl::Status read = Read();
  EXPECT_EQ(read.code(), absl::StatusCode::kDataLoss) << read;
  EXPECT_THAT(std::string(read.message()), HasSubstr(kRecordsFile));
}

TEST_F(DamagedStore, AnotherVersionIsRefusedByNumber) {
  std::string text = index_;
  const size_t at = text.find("\"orrery_store\":1");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 16, "\"orrery_store\":7");
  WriteTempFile(dir_, kIndexFile, text);
  const absl::Status read = Read();
  EXPECT_EQ(read.code(), absl::StatusCode::kInvalidArgument) << read;
  EXPECT_THAT(std::string(read.message()), HasSubstr("version 7"));
}

}  // namespace
}  // namespace orrery
