// A model for tests of the router: one id per byte, the markers of the R1 format, no weights.
//
//   ServedModel model = MakeTinyModel({.max_context_tokens = 64});
//   model.tokenizer.Encode("A", ...)  ->  {TinyByteId('A')}
#ifndef ORRERY_SERVICES_ROUTER_TINY_MODEL_H_
#define ORRERY_SERVICES_ROUTER_TINY_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "services/router/served_model.h"

namespace orrery {

inline constexpr int32_t kTinyBos = 0;
inline constexpr int32_t kTinyEos = 1;
inline constexpr int32_t kTinyUser = 2;
inline constexpr int32_t kTinyAssistant = 3;
inline constexpr int32_t kTinyThink = 4;
inline constexpr int32_t kTinyEndThink = 5;
// Two ids of the vocabulary have no token, as in real models.
inline constexpr int kTinyVocabSize = 264;

constexpr int32_t TinyByteId(unsigned char byte) { return 6 + byte; }
std::vector<int32_t> TinyIds(const std::string& text);

struct TinyModelOptions {
  int max_context_tokens = 100;
  bool has_thinking = true;  // whether the tokenizer has <think> and </think>
};
ServedModel MakeTinyModel(const TinyModelOptions& options = {});

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_TINY_MODEL_H_
