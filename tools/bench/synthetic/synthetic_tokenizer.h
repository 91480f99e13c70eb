// A tokenizer for models of noise: one id per byte, and the markers of DeepSeek's chat format.
#ifndef ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_TOKENIZER_H_
#define ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_TOKENIZER_H_

#include <string>

namespace orrery {

// tokenizer.json: ids 0 (begin of sentence), 1 (end of sentence), 2 (user), 3 (assistant), then the
// 256 bytes.
std::string SyntheticTokenizer();
// tokenizer_config.json.
std::string SyntheticTokenizerConfig();

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_SYNTHETIC_SYNTHETIC_TOKENIZER_H_
