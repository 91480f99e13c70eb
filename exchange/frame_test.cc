#include "exchange/frame.h"

#include <cstring>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> RandomBytes(size_t num_bytes, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<std::byte> bytes(num_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  return bytes;
}

const std::vector<DispatchEntry> kEntries = {{.row = 1, .expert = 4, .result = 0},
                                             {.row = 1, .expert = 9, .result = 1},
                                             {.row = 5, .expert = 4, .result = 2}};

FrameHeader Header(uint32_t row_bytes) {
  return {.lane = Lane::kBulk,
          .ticket_slot = 2,
          .ticket_generation = 77,
          .frame_index = 3,
          .layer = 11,
          .row_bytes = row_bytes,
          .numerics_hash = NumericsHash("bf16/test")};
}

TEST(Frame, CarriesADispatchAndGathersItsRows) {
  const std::vector<std::byte> rows = RandomBytes(6 * 13, 1);
  const std::string bytes = EncodeDispatch(Header(13), kEntries, rows.data());
  const absl::StatusOr<DispatchView> view = ParseDispatch(bytes);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->header.ticket_generation, 77u);
  EXPECT_EQ(view->header.layer, 11u);
  EXPECT_EQ(view->header.lane, Lane::kBulk);
  ASSERT_EQ(view->header.num_rows, 2u);
  ASSERT_EQ(view->entries.size(), 3u);
  EXPECT_EQ(view->entries[1].row, 0);
  EXPECT_EQ(view->entries[1].expert, 9);
  EXPECT_EQ(view->entries[2].row, 1);
  EXPECT_EQ(std::memcmp(view->rows, rows.data() + 1 * 13, 13), 0);
  EXPECT_EQ(std::memcmp(view->rows + 13, rows.data() + 5 * 13, 13), 0);
  EXPECT_EQ((view->rows - reinterpret_cast<const std::byte*>(bytes.data())) % 16, 0);
}

TEST(Frame, CarriesAReplyWithTheResultsThatAreDoneOnly) {
  const std::vector<std::byte> results = RandomBytes(3 * 21, 2);
  const std::vector<EntryState> states = {EntryState::kDone, EntryState::kNotHeld,
                                          EntryState::kDone};
  const std::string bytes =
      EncodeReply(Header(13), {.states = states, .results = results, .eta_ms = 350}, 21);
  const absl::StatusOr<ReplyView> view = ParseReply(bytes);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->header.frame_index, 3u);
  EXPECT_EQ(view->header.eta_ms, 350u);
  EXPECT_EQ(view->states, states);
  EXPECT_EQ(view->header.num_rows, 2u);
  EXPECT_EQ(std::memcmp(view->results, results.data(), 21), 0);
  EXPECT_EQ(std::memcmp(view->results + 21, results.data() + 2 * 21, 21), 0);
}

TEST(Frame, CarriesAnAbandonWithTheTicketAndNothingElse) {
  const std::string bytes = EncodeAbandon(Header(13));
  EXPECT_EQ(bytes.size(), sizeof(FrameHeader));
  EXPECT_TRUE(LooksLikeAbandon(bytes));
  const absl::StatusOr<FrameHeader> header = ParseAbandon(bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->lane, Lane::kBulk);
  EXPECT_EQ(header->ticket_slot, 2u);
  EXPECT_EQ(header->ticket_generation, 77u);
  EXPECT_EQ(header->num_entries + header->num_rows + header->row_bytes, 0u);
  EXPECT_FALSE(ParseDispatch(bytes).ok());
  EXPECT_FALSE(ParseReply(bytes).ok());

  const std::vector<std::byte> rows = RandomBytes(6 * 13, 1);
  for (const std::string& other :
       {std::string(), std::string("short"), EncodeDispatch(Header(13), kEntries, rows.data()),
        EncodeReply(Header(13), {.states = {EntryState::kLoading}, .results = {}}, 21)}) {
    EXPECT_FALSE(LooksLikeAbandon(other));
    EXPECT_FALSE(ParseAbandon(other).ok());
  }
}

TEST(Frame, SaysWhichFieldMakesNoSense) {
  const std::vector<std::byte> rows = RandomBytes(6 * 13, 1);
  const std::string good = EncodeDispatch(Header(13), kEntries, rows.data());
  const auto error = [&](size_t offset, uint32_t value) {
    std::string bad = good;
    std::memcpy(bad.data() + offset, &value, sizeof(value));
    return std::string(ParseDispatch(bad).status().message());
  };
  EXPECT_THAT(error(offsetof(FrameHeader, magic), 1), HasSubstr("magic 1"));
  EXPECT_THAT(error(offsetof(FrameHeader, version), 9), HasSubstr("version 9"));
  EXPECT_THAT(error(offsetof(FrameHeader, layer), 1u << 31), HasSubstr("layer"));
  EXPECT_THAT(error(offsetof(FrameHeader, num_entries), 0), HasSubstr("num_entries 0"));
  EXPECT_THAT(error(offsetof(FrameHeader, num_rows), 4), HasSubstr("num_rows 4"));
  EXPECT_THAT(error(offsetof(FrameHeader, num_entries), 0xffffffff), HasSubstr("length"));
  EXPECT_THAT(error(offsetof(FrameHeader, row_bytes), 0xffffffff), HasSubstr("length"));
  EXPECT_THAT(error(sizeof(FrameHeader), 2), HasSubstr("row index 2"));
  EXPECT_THAT(error(sizeof(FrameHeader) + 4, 1u << 31), HasSubstr("expert"));
  EXPECT_THAT(std::string(ParseReply(good).status().message()), HasSubstr("kind 1"));
  EXPECT_THAT(std::string(ParseDispatch(std::string(kMaxFrameBytes + 1, 'x')).status().message()),
              HasSubstr("the limit is 524288"));

  std::string abandon = EncodeAbandon(Header(13));
  EXPECT_THAT(std::string(ParseAbandon(abandon + "x").status().message()),
              HasSubstr("length 49, its header says 48"));
  abandon[offsetof(FrameHeader, num_entries)] = 1;
  EXPECT_THAT(std::string(ParseAbandon(abandon).status().message()), HasSubstr("num_entries 1"));

  std::string reply =
      EncodeReply(Header(13), {.states = {EntryState::kNotHeld}, .results = {}}, 21);
  reply[sizeof(FrameHeader)] = static_cast<char>(EntryState::kPending);
  EXPECT_THAT(std::string(ParseReply(reply).status().message()), HasSubstr("state 0"));
  reply[sizeof(FrameHeader)] = static_cast<char>(EntryState::kDone);
  EXPECT_THAT(std::string(ParseReply(reply).status().message()), HasSubstr("num_rows 0"));
}

// Under the address sanitizer this also shows that nothing outside is read.
TEST(Frame, RefusesEveryTruncationAndSurvivesEveryDamagedByte) {
  const std::vector<std::byte> rows = RandomBytes(6 * 13, 1);
  const std::vector<EntryState> states = {EntryState::kDone, EntryState::kLoading};
  for (const std::string& good : {EncodeDispatch(Header(13), kEntries, rows.data()),
                                  EncodeReply(Header(13), {.states = states, .results = rows}, 13),
                                  EncodeAbandon(Header(13))}) {
    for (size_t length = 0; length < good.size(); ++length) {
      const std::string cut = good.substr(0, length);
      EXPECT_FALSE(ParseDispatch(cut).ok());
      EXPECT_FALSE(ParseReply(cut).ok());
      EXPECT_FALSE(ParseAbandon(cut).ok());
      (void)LooksLikeAbandon(cut);
    }
    for (size_t i = 0; i < good.size(); ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string damaged = good;
        damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
        (void)ParseDispatch(damaged);
        (void)ParseReply(damaged);
        (void)ParseAbandon(damaged);
      }
    }
  }
}

TEST(SplitIntoFrames, KeepsEverythingTogetherWhenItFits) {
  const auto frames = SplitIntoFrames(kEntries, {.row_bytes = 100, .result_bytes = 100});
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].size(), 3u);
  EXPECT_TRUE(SplitIntoFrames({}, {.row_bytes = 100, .result_bytes = 100}).empty());
}

TEST(SplitIntoFrames, FitsEveryDispatchAndItsReplyForRandomSizes) {
  std::mt19937 rng(3);
  for (int round = 0; round < 100; ++round) {
    const FrameLimits limits{.row_bytes = 1 + rng() % 500,
                             .result_bytes = 1 + rng() % 500,
                             .max_frame_bytes = 700 + rng() % 3000};
    std::vector<DispatchEntry> entries;
    for (int row = 0, result = 0; row < 40; ++row) {
      for (int num_experts = rng() % 4; num_experts > 0; --num_experts) {
        entries.push_back({.row = row, .expert = num_experts, .result = result++});
      }
    }
    const std::vector<std::byte> rows = RandomBytes(40 * limits.row_bytes, round);
    const std::vector<std::byte> results(entries.size() * limits.result_bytes);
    size_t num_entries = 0;
    for (absl::Span<const DispatchEntry> frame : SplitIntoFrames(entries, limits)) {
      ASSERT_FALSE(frame.empty());
      EXPECT_EQ(frame.data(), entries.data() + num_entries);
      num_entries += frame.size();
      const std::string dispatch =
          EncodeDispatch(Header(static_cast<uint32_t>(limits.row_bytes)), frame, rows.data());
      const std::vector<EntryState> done(frame.size(), EntryState::kDone);
      const std::string reply =
          EncodeReply(Header(1), {.states = done, .results = results}, limits.result_bytes);
      EXPECT_LE(dispatch.size(), limits.max_frame_bytes);
      EXPECT_LE(reply.size(), limits.max_frame_bytes);
      EXPECT_TRUE(ParseDispatch(dispatch).ok());
      EXPECT_TRUE(ParseReply(reply).ok());
    }
    EXPECT_EQ(num_entries, entries.size());
  }
}

TEST(CheckExchangeOptions, RefusesSizesThatCannotWork) {
  const ExchangeOptions good{.numerics_id = "x", .row_bytes = 64, .result_bytes = 64};
  EXPECT_TRUE(CheckExchangeOptions(good).ok());
  ExchangeOptions bad = good;
  bad.row_bytes = 0;
  EXPECT_FALSE(CheckExchangeOptions(bad).ok());
  bad = good;
  bad.result_bytes = kMaxFrameBytes;
  EXPECT_THAT(std::string(CheckExchangeOptions(bad).message()), HasSubstr("result_bytes 524288"));
  bad = good;
  bad.max_queued_bytes = 1000;
  EXPECT_THAT(std::string(CheckExchangeOptions(bad).message()), HasSubstr("max_queued_bytes 1000"));
  bad = good;
  bad.max_tickets = 0;
  EXPECT_FALSE(CheckExchangeOptions(bad).ok());
}

TEST(Frame, KnowsHowManyBytesOfRowsAFrameEndsWith) {
  const std::vector<std::byte> rows(3 * 20);
  const std::vector<DispatchEntry> entries = {{.row = 0, .expert = 1, .result = 0},
                                              {.row = 2, .expert = 0, .result = 1},
                                              {.row = 2, .expert = 3, .result = 2}};
  EXPECT_EQ(NumRowBytes(std::string_view(EncodeDispatch({.row_bytes = 20}, entries, rows.data()))),
            2 * 20u);
  const std::vector<EntryState> states = {EntryState::kDone, EntryState::kNotHeld,
                                          EntryState::kDone};
  EXPECT_EQ(NumRowBytes(std::string_view(EncodeReply({}, {.states = states, .results = rows}, 20))),
            2 * 20u);
  EXPECT_EQ(NumRowBytes(std::string_view(EncodeAbandon({}))), 0u);
}

}  // namespace
}  // namespace orrery
