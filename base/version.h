// Which Orrery this is.
#ifndef ORRERY_BASE_VERSION_H_
#define ORRERY_BASE_VERSION_H_

namespace orrery {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace orrery

#endif  // ORRERY_BASE_VERSION_H_
