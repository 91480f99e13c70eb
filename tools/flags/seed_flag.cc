#include "tools/flags/seed_flag.h"

#include "absl/flags/flag.h"

ABSL_FLAG(int64_t, seed, -1,
          "what is drawn follows from it: of an answer, a load, a fault; negative: as the command "
          "has it, for an answer another one each time");
