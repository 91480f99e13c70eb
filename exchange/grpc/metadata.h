// The metadata of an Exchange call (proto/expert.proto), named once for both sides. Header only.
#ifndef ORRERY_EXCHANGE_GRPC_METADATA_H_
#define ORRERY_EXCHANGE_GRPC_METADATA_H_

#include <string_view>

#include "exchange/exchange.h"

namespace orrery {

// Sent by the rank.
inline constexpr char kLaneMetadata[] = "orrery-lane";
inline constexpr char kRankMetadata[] = "orrery-rank";
// Whom it takes the shard for: addresses may change hands.
inline constexpr char kShardMetadata[] = "orrery-shard";
// Sent by the shard at once when it has accepted a stream. A refusal carries initial metadata too,
// but not this.
inline constexpr char kAcceptedMetadata[] = "orrery-accepted";
// Its value: the shard answers knocks (exchange/grpc/sealed_frame.h). "1" was that of builds that know none.
inline constexpr char kAnswersKnocks[] = "2";
// With it: the terms of the layer above the stream, if there is one (exchange/channel.h).
inline constexpr char kLayerMetadata[] = "orrery-layer";

constexpr std::string_view LaneName(Lane lane) { return lane == Lane::kDecode ? "decode" : "bulk"; }

}  // namespace orrery

#endif  // ORRERY_EXCHANGE_GRPC_METADATA_H_
