#include "exchange/nccl/nccl_layer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "exchange/edge/slots.h"
#include "exchange/nccl/nccl_mover.h"

namespace orrery {
namespace {

class NcclCarrier : public Carrier {
 public:
  NcclCarrier(int device_index, int version, std::shared_ptr<SlotPool> slots)
      : device_index_(device_index), version_(version), slots_(std::move(slots)) {}

  std::string_view name() const override { return "nccl"; }
  std::string terms() const override { return absl::StrCat("nccl ", NcclVersionText(version_)); }
  bool is_one_sided() const override { return false; }

  // Slots first: without them NCCL is not troubled.
  absl::Status Make(EdgeRole role, Half& half) override {
    ASSIGN_OR_RETURN(NcclMover* const out, MakePipe(Direction::kSend, half.out));
    ASSIGN_OR_RETURN(NcclMover* const in, MakePipe(Direction::kReceive, half.in));
    if (role == EdgeRole::kShard) return absl::OkStatus();
    NcclIds ids;
    ASSIGN_OR_RETURN(ids.to_shard, MakeNcclId());
    ASSIGN_OR_RETURN(ids.to_rank, MakeNcclId());
    half.words.assign(reinterpret_cast<const char*>(&ids), sizeof(ids));
    RETURN_IF_ERROR(out->Join(ids.to_shard));
    return in->Join(ids.to_rank);
  }

 private:
  absl::StatusOr<NcclMover*> MakePipe(Direction direction, std::unique_ptr<Pipe>& pipe) {
    ASSIGN_OR_RETURN(Slots slots, SlotPool::Take(slots_, kSlotsPerPipe));
    ASSIGN_OR_RETURN(
        std::unique_ptr<NcclMover> mover,
        NcclMover::Make({.direction = direction, .device_index = device_index_}, std::move(slots)));
    NcclMover* const made = mover.get();
    pipe = std::make_unique<Pipe>(direction, std::move(mover), is_one_sided());
    return made;
  }

  const int device_index_;
  const int version_;
  const std::shared_ptr<SlotPool> slots_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChannelLayer>> MakeNcclLayer(const NcclOptions& options,
                                                            std::unique_ptr<Device> device) {
  RETURN_IF_ERROR(CheckEdgeOptions(options.edges));
  ASSIGN_OR_RETURN(const int version, NcclVersion());
  ASSIGN_OR_RETURN(
      std::shared_ptr<SlotPool> slots,
      SlotPool::Make(device.get(), {.num_slots = options.edges.max_edges * 2 * kSlotsPerPipe}));
  LogInfo("exchange: NCCL ", NcclVersionText(version), " on ", device->name(), ", for up to ",
          options.edges.max_edges, " connections");
  return MakeEdgeLayer(
      std::make_unique<NcclCarrier>(options.device_index, version, std::move(slots)),
      options.edges);
}

}  // namespace orrery
