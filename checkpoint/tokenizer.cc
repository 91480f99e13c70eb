#include "checkpoint/tokenizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "checkpoint/file.h"
#include "checkpoint/text/added_tokens.h"
#include "checkpoint/text/bpe.h"
#include "checkpoint/text/byte_alphabet.h"
#include "checkpoint/text/pre_tokenizer.h"
#include "checkpoint/text/utf8.h"
#include "checkpoint/tokenizer_file.h"

namespace orrery {
namespace {

// Unicode normalisation form C of valid UTF-8.
absl::StatusOr<std::string> ToNfc(std::string_view text) {
  const bool is_ascii =
      std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; });
  if (is_ascii) return std::string(text);
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t num_bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), text.size(), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (num_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot normalise the text: ", utf8proc_errmsg(num_bytes)));
  }
  std::string result(reinterpret_cast<const char*>(composed), num_bytes);
  std::free(composed);
  return result;
}

}  // namespace

struct Tokenizer::Impl {
  Impl(PreTokenizer pre_tokenizer, BytePairEncoder bpe)
      : pre_tokenizer(std::move(pre_tokenizer)), bpe(std::move(bpe)) {}

  struct Token {
    std::string bytes;  // what it stands for; empty: no such id
    bool special = false;
    bool added = false;
  };

  // Text without added tokens.
  absl::Status EncodePlain(std::string_view text, std::vector<int32_t>& ids) const;
  // Text after the normaliser, whose "normalized" added tokens may still be in it.
  absl::Status EncodeNormalized(std::string_view text, std::vector<int32_t>& ids) const;
  absl::Status EncodeRaw(std::string_view text, std::vector<int32_t>& ids) const;

  bool nfc = false;
  bool ignore_merges = false;
  PreTokenizer pre_tokenizer;
  BytePairEncoder bpe;
  absl::flat_hash_map<std::string, int32_t> id_of;  // by the string in the file
  std::vector<Token> tokens;                        // by id
  AddedTokenMatcher raw_tokens;
  AddedTokenMatcher normalized_tokens;
};

absl::Status Tokenizer::Impl::EncodePlain(std::string_view text, std::vector<int32_t>& ids) const {
  std::vector<std::string_view> pieces;
  RETURN_IF_ERROR(pre_tokenizer.Split(text, pieces));
  for (const std::string_view piece : pieces) {
    if (ignore_merges) {
      const auto whole = id_of.find(BytesToAlphabet(piece));
      // An added token is never plain text.
      if (whole != id_of.end() && !tokens[whole->second].added) {
        ids.push_back(whole->second);
        continue;
      }
    }
    bpe.Encode(piece, ids);
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::Impl::EncodeNormalized(std::string_view text,
                                               std::vector<int32_t>& ids) const {
  return normalized_tokens.Split(text, [&](std::string_view part, std::optional<int32_t> id) {
    if (!id) return EncodePlain(part, ids);
    ids.push_back(*id);
    return absl::OkStatus();
  });
}

absl::Status Tokenizer::Impl::EncodeRaw(std::string_view text, std::vector<int32_t>& ids) const {
  return raw_tokens.Split(text,
                          [&](std::string_view part, std::optional<int32_t> id) -> absl::Status {
                            if (id) {
                              ids.push_back(*id);
                              return absl::OkStatus();
                            }
                            if (!nfc) return EncodeNormalized(part, ids);
                            ASSIGN_OR_RETURN(const std::string normalized, ToNfc(part));
                            return EncodeNormalized(normalized, ids);
                          });
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<Tokenizer> Tokenizer::Open(const std::string& model_dir) {
  const std::string path = JoinPath(model_dir, "tokenizer.json");
  ASSIGN_OR_RETURN(const std::string json, ReadFile(path, kMaxTokenizerBytes));
  return Parse(json, path);
}

absl::StatusOr<Tokenizer> Tokenizer::Parse(const std::string& tokenizer_json,
                                           const std::string& origin) {
  ASSIGN_OR_RETURN(TokenizerFile file, ParseTokenizerFile(tokenizer_json, origin));
  absl::StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::Create(file.split_patterns);
  if (!pre_tokenizer.ok()) {
    return absl::Status(
        pre_tokenizer.status().code(),
        absl::StrCat(origin, ": pre_tokenizer: ", pre_tokenizer.status().message()));
  }
  auto impl = std::make_unique<Impl>(*std::move(pre_tokenizer), BytePairEncoder(file.byte_ids));
  impl->nfc = file.nfc;
  impl->ignore_merges = file.ignore_merges;
  for (size_t rank = 0; rank < file.merges.size(); ++rank) {
    const MergeRule& merge = file.merges[rank];
    if (!impl->bpe.AddMerge(merge.left, merge.right, merge.merged)) {
      return absl::InvalidArgumentError(
          absl::StrCat(origin, ": model: merge ", rank, " stands twice"));
    }
  }
  impl->id_of = std::move(file.vocab);
  int32_t max_id = 0;
  for (const auto& [token, id] : impl->id_of) max_id = std::max(max_id, id);
  for (const AddedToken& token : file.added_tokens) max_id = std::max(max_id, token.id);
  impl->tokens.resize(max_id + 1);
  for (const auto& [token, id] : impl->id_of) {
    // Tokens outside the alphabet stand for themselves, as in huggingface/tokenizers' ByteLevel
    // decoder.
    impl->tokens[id].bytes = AlphabetToBytes(token).value_or(token);
  }
  for (const AddedToken& token : file.added_tokens) {
    impl->tokens[token.id] = {token.content, token.special, /*added=*/true};
    impl->id_of[token.content] = token.id;
    std::string content = token.content;
    if (token.normalized && file.nfc) {
      ASSIGN_OR_RETURN(content, ToNfc(content));
    }
    (token.normalized ? impl->normalized_tokens : impl->raw_tokens).Add(content, token.id);
  }
  return Tokenizer(std::move(impl));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       SpecialText special) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", text.size(), " bytes; the limit is ", kMaxTextBytes));
  }
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("the text is not UTF-8 at byte ", invalid));
  }
  std::vector<int32_t> ids;
  if (special == SpecialText::kRecognize) {
    RETURN_IF_ERROR(impl_->EncodeRaw(text, ids));
  } else if (impl_->nfc) {
    ASSIGN_OR_RETURN(const std::string normalized, ToNfc(text));
    RETURN_IF_ERROR(impl_->EncodePlain(normalized, ids));
  } else {
    RETURN_IF_ERROR(impl_->EncodePlain(text, ids));
  }
  return ids;
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, SpecialTokens special) const {
  DetokenizerStream stream(this, special);
  std::string text;
  for (const int32_t id : ids) text += stream.Append(id);
  return text += stream.Finish();
}

int Tokenizer::num_ids() const { return static_cast<int>(impl_->tokens.size()); }

std::optional<int32_t> Tokenizer::TokenId(std::string_view token) const {
  const auto found = impl_->id_of.find(std::string(token));
  if (found == impl_->id_of.end()) return std::nullopt;
  return found->second;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= num_ids()) return {};
  return impl_->tokens[id].bytes;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < num_ids() && impl_->tokens[id].special;
}

std::string DetokenizerStream::Append(int32_t id) {
  if (special_ == SpecialTokens::kSkip && tokenizer_->IsSpecial(id)) return "";
  return AppendBytes(tokenizer_->TokenBytes(id));
}

std::string DetokenizerStream::AppendBytes(std::string_view bytes) {
  pending_.append(bytes);
  std::string text;
  pending_.erase(0, AppendReplacingInvalid(pending_, /*is_end=*/false, text));
  return text;
}

std::string DetokenizerStream::Finish() {
  std::string text;
  AppendReplacingInvalid(pending_, /*is_end=*/true, text);
  pending_.clear();
  return text;
}

}  // namespace orrery
