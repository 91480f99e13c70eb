// Whatever stands in a file, reading it ends with an answer or an error: never a crash, a hang, or
// a read outside of the mapping (run under --config=asan this test shows that too). Files that are
// right are damaged at random, with a fixed seed.
#include <functional>
#include <random>

#include "checkpoint/chat_template.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "checkpoint/test_files.h"
#include "checkpoint/tokenizer.h"
#include "gtest/gtest.h"

namespace orrery {
namespace {

// Replaces, removes, doubles or inserts a few bytes; now and then a number or a piece of syntax.
std::string Mutate(std::string text, std::mt19937& random) {
  constexpr std::string_view kPieces[] = {"-1",
                                          "0",
                                          "1e999",
                                          "18446744073709551615",
                                          "9223372036854775807",
                                          "null",
                                          "true",
                                          "[]",
                                          "{}",
                                          "\"\"",
                                          "[[[[",
                                          "\xff",
                                          "\\u0000",
                                          "1.5",
                                          ",",
                                          ":",
                                          "\"",
                                          "}",
                                          "]",
                                          "4294967296",
                                          "(",
                                          "*"};
  const int num_changes = 1 + random() % 3;
  for (int i = 0; i < num_changes && !text.empty(); ++i) {
    const size_t position = random() % text.size();
    const size_t length = std::min<size_t>(1 + random() % 8, text.size() - position);
    switch (random() % 5) {
      case 0:
        text[position] = static_cast<char>(random());
        break;
      case 1:
        text.erase(position, length);
        break;
      case 2:
        text.insert(position, text.substr(position, length));
        break;
      case 3:
        text.insert(position, kPieces[random() % std::size(kPieces)]);
        break;
      case 4:
        text.replace(position, length, kPieces[random() % std::size(kPieces)]);
        break;
    }
  }
  if (random() % 50 == 0) text.resize(random() % (text.size() + 1));
  return text;
}

// Calls `read` with `rounds` damaged versions; it returns whether the file was accepted.
void ReadDamaged(const std::string& text, int rounds,
                 const std::function<bool(const std::string&)>& read) {
  std::mt19937 random(42);
  int num_refused = 0;
  for (int round = 0; round < rounds; ++round) num_refused += !read(Mutate(text, random));
  EXPECT_GT(num_refused, rounds / 10) << "the damage should mostly show";
}

TEST(DamagedFiles, ConfigsAreReadOrRefused) {
  for (const char* model : {"v3_basic", "fp8_w128", "qwen2_tied", "llama3_scaled"}) {
    ReadDamaged(ReadTextFile(GoldenDir(model) + "/config.json"), 1000, [](const std::string& text) {
      const absl::StatusOr<ModelConfig> config = ParseModelConfig(text, "", "f");
      if (!config.ok()) return false;
      // What was accepted can be used.
      EXPECT_EQ(config->layer_is_moe.size(), config->num_layers);
      EXPECT_EQ(InverseFrequencies(config->rope).size(), config->rope.dim / 2);
      EXPECT_GT(config->kv_row_width(), 0);
      return true;
    });
  }
}

TEST(DamagedFiles, SafetensorsAreReadOrRefused) {
  const std::string dir = MakeTempDir();
  std::string header = R"({"__metadata__": {"format": "pt"},
      "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
      "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
      "c": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [32, 40]},
      "d": {"dtype": "I64", "shape": [1], "data_offsets": [40, 48]}})";
  const std::string data(48, '\x01');
  const auto open = [&dir](const std::string& bytes) {
    const absl::StatusOr<Checkpoint> checkpoint =
        (WriteTempFile(dir, "model.safetensors", bytes), Checkpoint::Open(dir));
    if (!checkpoint.ok()) return false;
    for (const char* name : {"a", "b", "c", "d"}) (void)checkpoint->Tensor(name, {2, 3});
    return true;
  };
  // Damage in the header, with a length that fits, and anywhere.
  ReadDamaged(header, 1000,
              [&](const std::string& text) { return open(SafetensorsBytes(text, data)); });
  ReadDamaged(SafetensorsBytes(header, data), 1000, open);
}

TEST(DamagedFiles, TokenizersAreReadOrRefused) {
  // Most of the file is vocabulary; damage what steers.
  Json json = ReadJsonFile("models/abacus/tokenizer.json");
  for (const char* part :
       {"/added_tokens", "/pre_tokenizer", "/normalizer", "/decoder", "/model/merges"}) {
    const Json::json_pointer pointer(part);
    const std::string original = json[pointer].dump();
    json[pointer] = "@HERE@";
    const std::string rest = json.dump();
    const size_t hole = rest.find("\"@HERE@\"");
    json[pointer] = Json::parse(original);
    std::mt19937 random(42);
    for (int round = 0; round < 60; ++round) {
      std::string text = rest;
      text.replace(hole, 8, Mutate(original, random));
      const absl::StatusOr<Tokenizer> tokenizer = Tokenizer::Parse(text, "f");
      if (!tokenizer.ok()) continue;
      const absl::StatusOr<std::vector<int32_t>> ids =
          tokenizer->Encode("<｜User｜>1+1 é\n", SpecialText::kRecognize);
      if (ids.ok()) {
        EXPECT_FALSE(tokenizer->Decode(*ids, SpecialTokens::kKeep).empty());
      }
    }
  }
}

TEST(DamagedFiles, ChatTemplatesAreReadOrRefused) {
  ReadDamaged(ReadTextFile("models/abacus/tokenizer_config.json"), 1000,
              [](const std::string& text) {
                const absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Parse(text, "f");
                if (!chat_template.ok()) return false;
                EXPECT_TRUE(chat_template->Render({{ChatMessage::Role::kUser, "1+1"}}, {}).ok());
                return true;
              });
}

}  // namespace
}  // namespace orrery
