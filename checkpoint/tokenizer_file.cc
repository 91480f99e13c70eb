#include "checkpoint/tokenizer_file.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "checkpoint/json.h"
#include "checkpoint/text/byte_alphabet.h"

namespace orrery {
namespace {

std::string TypeOf(JsonReader& fields) { return fields.String("type"); }

// null, NFC, or a sequence of such.
absl::Status ReadNormalizer(const Json& value, const std::string& where, TokenizerFile& file) {
  if (value.is_null()) return absl::OkStatus();
  JsonReader fields(value, where);
  const std::string type = TypeOf(fields);
  if (type == "Sequence" && fields.Value("normalizers").is_array()) {
    for (const Json& item : fields.Value("normalizers")) {
      RETURN_IF_ERROR(ReadNormalizer(item, where, file));
    }
  } else if (type == "NFC") {
    file.nfc = true;
  } else if (fields.Has("type")) {
    fields.Refuse("type", "we implement NFC, and a Sequence of those");
  }
  return fields.status();
}

void ReadSplit(JsonReader& fields, TokenizerFile& file) {
  JsonReader pattern(fields.Value("pattern"), absl::StrCat(fields.where(), ": pattern"));
  file.split_patterns.push_back(pattern.String("Regex"));
  fields.Include(pattern);
  if (fields.String("behavior") != "Isolated") fields.Refuse("behavior", "we implement Isolated");
  if (fields.BoolOr("invert", false)) fields.Refuse("invert", "not implemented");
}

// A sequence of Split and Digits steps that ends with ByteLevel.
absl::Status ReadPreTokenizer(const Json& value, const std::string& where, TokenizerFile& file) {
  JsonReader fields(value, where);
  Json steps = Json::array({value});
  if (TypeOf(fields) == "Sequence") steps = fields.Value("pretokenizers");
  if (!steps.is_array() || steps.empty()) fields.Refuse("pretokenizers", "must be a list of steps");
  RETURN_IF_ERROR(fields.status());
  for (size_t i = 0; i < steps.size(); ++i) {
    JsonReader step(steps[i], absl::StrCat(where, " step ", i));
    const bool is_last = i + 1 == steps.size();
    const std::string type = TypeOf(step);
    if (type == "ByteLevel" && is_last) {
      if (step.BoolOr("add_prefix_space", true)) step.Refuse("add_prefix_space", "must be false");
      if (step.BoolOr("use_regex", true)) step.Refuse("use_regex", "must be false");
    } else if (type == "Split" && !is_last) {
      ReadSplit(step, file);
    } else if (type == "Digits" && !is_last) {
      file.split_patterns.push_back(step.BoolOr("individual_digits", false) ? "\\p{N}" : "\\p{N}+");
    } else if (step.Has("type")) {
      step.Refuse("type", "we implement Split and Digits, and ByteLevel as the last step");
    }
    RETURN_IF_ERROR(step.status());
  }
  return absl::OkStatus();
}

// Adds BOS or shifts offsets; we do neither, so all that matters is that it is nothing else.
absl::Status CheckPostProcessor(const Json& value, const std::string& where) {
  if (value.is_null()) return absl::OkStatus();
  JsonReader fields(value, where);
  const std::string type = TypeOf(fields);
  if (type == "Sequence" && fields.Value("processors").is_array()) {
    for (const Json& item : fields.Value("processors")) {
      RETURN_IF_ERROR(CheckPostProcessor(item, where));
    }
  } else if (type != "ByteLevel" && type != "TemplateProcessing" && fields.Has("type")) {
    fields.Refuse("type", "we know ByteLevel, TemplateProcessing, and a Sequence of those");
  }
  return fields.status();
}

absl::Status ReadVocab(const Json& vocab, const std::string& where, TokenizerFile& file) {
  if (!vocab.is_object() || vocab.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": vocab must be an object of ids"));
  }
  absl::flat_hash_set<int32_t> ids;
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_integer() || id < 0 || id > kMaxTokenId) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": vocab: ", JsonText(token), " is ",
                                                     JsonText(id), ": must be an id from 0 to ",
                                                     kMaxTokenId));
    }
    if (!ids.insert(id.get<int32_t>()).second) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": vocab: the id ", id.get<int32_t>(),
                                                     " of ", JsonText(token),
                                                     " stands for another token too"));
    }
    file.vocab[token] = id.get<int32_t>();
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char as_char = static_cast<char>(byte);
    const auto found = file.vocab.find(BytesToAlphabet(std::string_view(&as_char, 1)));
    if (found == file.vocab.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": vocab has no token for the byte ", byte));
    }
    file.byte_ids[byte] = found->second;
  }
  return absl::OkStatus();
}

// "a b", or ["a", "b"].
std::optional<std::pair<std::string, std::string>> ParseMerge(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  if (!merge.is_string()) return std::nullopt;
  const std::string& text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
    return std::nullopt;
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

absl::Status ReadMerges(const Json& merges, const std::string& where, TokenizerFile& file) {
  if (!merges.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": merges must be a list"));
  }
  absl::flat_hash_set<int32_t> special_ids;
  for (const AddedToken& token : file.added_tokens) {
    if (token.special) special_ids.insert(token.id);
  }
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto refuse = [&](std::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": merge ", rank, " is ", JsonText(merges[rank]), ": ", std::string(why)));
    };
    const auto pair = ParseMerge(merges[rank]);
    if (!pair) return refuse("must be \"left right\" or [\"left\", \"right\"]");
    const auto left = file.vocab.find(pair->first);
    const auto right = file.vocab.find(pair->second);
    const auto merged = file.vocab.find(pair->first + pair->second);
    if (left == file.vocab.end() || right == file.vocab.end() || merged == file.vocab.end()) {
      return refuse("both parts and the whole must be in the vocabulary");
    }
    if (special_ids.contains(merged->second))
      return refuse("plain text could forge a special token");
    file.merges.push_back({left->second, right->second, merged->second});
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const Json& value, const std::string& where, TokenizerFile& file) {
  JsonReader fields(value, where);
  // Files of 2020 leave the type out.
  if (fields.StringOr("type", "BPE") != "BPE") fields.Refuse("type", "we implement BPE");
  file.ignore_merges = fields.BoolOr("ignore_merges", false);
  fields.RefuseUnknown(
      {"type", "vocab", "merges", "ignore_merges"});  // dropout, unk_token, byte_fallback, ...
  RETURN_IF_ERROR(fields.status());
  RETURN_IF_ERROR(ReadVocab(fields.Value("vocab"), where, file));
  return ReadMerges(fields.Value("merges"), where, file);
}

absl::Status ReadAddedTokens(const Json& value, const std::string& where, TokenizerFile& file) {
  if (value.is_null()) return absl::OkStatus();
  if (!value.is_array()) return absl::InvalidArgumentError(absl::StrCat(where, " must be a list"));
  for (size_t i = 0; i < value.size(); ++i) {
    JsonReader fields(value[i], absl::StrCat(where, "[", i, "]"));
    AddedToken token;
    token.id = static_cast<int32_t>(fields.Int("id", {0, kMaxTokenId}));
    token.content = fields.String("content");
    token.special = fields.BoolOr("special", false);
    token.normalized = fields.BoolOr("normalized", !token.special);
    if (token.content.empty() && fields.Has("content"))
      fields.Refuse("content", "must not be empty");
    for (const std::string_view flag : {"single_word", "lstrip", "rstrip"}) {
      if (fields.BoolOr(flag, false)) fields.Refuse(flag, "not implemented");
    }
    RETURN_IF_ERROR(fields.status());
    file.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// One id, one string: among added tokens, and between them and the vocabulary.
absl::Status CheckAddedTokens(const std::string& where, const TokenizerFile& file) {
  absl::flat_hash_map<int32_t, std::string> of_id;
  absl::flat_hash_set<std::string> contents;
  for (const auto& [token, id] : file.vocab) of_id[id] = token;
  for (const AddedToken& token : file.added_tokens) {
    const auto [other, is_new] = of_id.try_emplace(token.id, token.content);
    const auto in_vocab = file.vocab.find(token.content);
    if ((!is_new && other->second != token.content) || !contents.insert(token.content).second ||
        (in_vocab != file.vocab.end() && in_vocab->second != token.id)) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": the id ", token.id,
                                                     " and the content ", token.content,
                                                     " do not belong to each other alone"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerFile> ParseTokenizerFile(const std::string& json,
                                                 const std::string& origin) {
  ASSIGN_OR_RETURN(const Json root, ParseJson(json, origin));
  JsonReader fields(root, origin);
  // truncation and padding would change the ids; null in every published file.
  fields.RefuseUnknown({"version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                        "decoder", "model"});
  RETURN_IF_ERROR(fields.status());
  TokenizerFile file;
  RETURN_IF_ERROR(
      ReadNormalizer(fields.Value("normalizer"), absl::StrCat(origin, ": normalizer"), file));
  RETURN_IF_ERROR(ReadPreTokenizer(fields.Value("pre_tokenizer"),
                                   absl::StrCat(origin, ": pre_tokenizer"), file));
  RETURN_IF_ERROR(
      CheckPostProcessor(fields.Value("post_processor"), absl::StrCat(origin, ": post_processor")));
  JsonReader decoder(fields.Value("decoder"), absl::StrCat(origin, ": decoder"));
  if (TypeOf(decoder) != "ByteLevel" && decoder.Has("type")) {
    decoder.Refuse("type", "we implement ByteLevel");
  }
  RETURN_IF_ERROR(decoder.status());
  const std::string added_tokens = absl::StrCat(origin, ": added_tokens");
  RETURN_IF_ERROR(ReadAddedTokens(fields.Value("added_tokens"), added_tokens, file));
  RETURN_IF_ERROR(ReadModel(fields.Value("model"), absl::StrCat(origin, ": model"), file));
  RETURN_IF_ERROR(CheckAddedTokens(added_tokens, file));
  return file;
}

}  // namespace orrery
