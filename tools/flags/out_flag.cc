#include "tools/flags/out_flag.h"

#include "absl/flags/flag.h"

ABSL_FLAG(std::string, out, "",
          "folder to be written: the packed store, which becomes a model folder by itself (empty: "
          "the model's), or the certificates");
