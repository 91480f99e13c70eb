#include "tools/bench/synthetic/synthetic_tokenizer.h"

#include <cstdint>

#include "checkpoint/text/byte_alphabet.h"
#include "nlohmann/json.hpp"

namespace orrery {
namespace {

constexpr char kBos[] = "<｜begin▁of▁sentence｜>";
constexpr char kEos[] = "<｜end▁of▁sentence｜>";
constexpr char kUser[] = "<｜User｜>";
constexpr char kAssistant[] = "<｜Assistant｜>";

}  // namespace

std::string SyntheticTokenizer() {
  nlohmann::json added = nlohmann::json::array();
  for (const char* const marker : {kBos, kEos, kUser, kAssistant}) {
    added.push_back({{"id", added.size()},
                     {"content", marker},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte)
    vocab[BytesToAlphabet(std::string(1, static_cast<char>(byte)))] = added.size() + byte;
  const nlohmann::json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", nlohmann::json::array()}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"},
           {"pattern", {{"Regex", "\\p{N}"}}},
           {"behavior", "Isolated"},
           {"invert", false}},
          {{"type", "ByteLevel"},
           {"add_prefix_space", false},
           {"trim_offsets", true},
           {"use_regex", false}}}}}},
      {"post_processor", nullptr},
      {"decoder",
       {{"type", "ByteLevel"},
        {"add_prefix_space", true},
        {"trim_offsets", true},
        {"use_regex", true}}},
      {"model",
       {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", nlohmann::json::array()}}}};
  return tokenizer.dump() + "\n";
}

std::string SyntheticTokenizerConfig() {
  // In the habits of the DeepSeek family (checkpoint/chat_template.h).
  const std::string chat_template =
      "{% set ns = namespace(system_prompt='') %}{%- for message in messages %}"
      "{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}"
      "{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}"
      "{%- for message in messages %}{%- if message['role'] == 'user' %}{{ '" +
      std::string(kUser) +
      "' + message['content'] }}{%- endif %}{%- if message['role'] == 'assistant' %}{{ '" +
      kAssistant + "' + message['content'] + '" + kEos +
      "' }}{%- endif %}{%- endfor %}{% if add_generation_prompt %}{{ '" + kAssistant +
      "' }}{% endif %}";
  return nlohmann::json{{"bos_token", kBos},
                        {"eos_token", kEos},
                        {"add_bos_token", true},
                        {"add_eos_token", false},
                        {"chat_template", chat_template}}
             .dump(2) +
         "\n";
}

}  // namespace orrery
