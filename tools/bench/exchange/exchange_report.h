// A run of `orrery bench exchange` as people read it, and as JSON.
#ifndef ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_REPORT_H_
#define ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_REPORT_H_

#include <string>

#include "tools/bench/exchange/exchange_bench.h"

namespace orrery {

// Command, machine, the head of the table.
std::string ExchangeHeadText(const std::string& command, const ExchangeShape& shape);
// One row of it.
std::string ExchangeRowText(const ExchangeFigures& figures);
// What stands below: definitions, and whether the targets held.
std::string ExchangeEndText(const ExchangeBenchResult& result);

std::string ExchangeJson(const std::string& command, const ExchangeShape& shape,
                         const ExchangeBenchResult& result);

}  // namespace orrery

#endif  // ORRERY_TOOLS_BENCH_EXCHANGE_EXCHANGE_REPORT_H_
