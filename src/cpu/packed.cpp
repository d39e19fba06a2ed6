#include "cpu/packed.h"

#include "base/error.h"
#include "cpu/pack.h"

namespace sluice::cpu {

using program::OpKind;

PackedWeights::PackedWeights(const model::Model& model, const program::Tiling& tiling, Workers& workers,
                             const PackedCache* cache, const LoadEvents& events, bool screened)
    : PackedWeights(model, PackingPlan(model, tiling, screened), workers, cache, events) {}

PackedWeights::PackedWeights(const model::Model& model, const PackingPlan& plan, Workers& workers,
                             const PackedCache* cache, const LoadEvents& events)
    : block_(plan.bytes()), layers_(model.config.n_layers()) {
  const auto pack_all = [&] { pack(model, plan, workers, events, block_.bytes()); };
  if (cache == nullptr) {
    pack_all();
  } else {
    from_file_ = cache->read_or_make(model, plan, workers, events, block_.bytes(), pack_all);
  }
  for (const OpPlan& planned : plan.ops()) {
    PackedOp& packed = op(planned.kind, planned.layer);
    packed.depth = planned.depth;
    for (const OpPlan::Tile& tile : planned.tiles)
      packed.tiles.push_back(
          {.is_bf16 = tile.is_bf16, .n_panels = tile.n_panels, .data = block_.bytes().data() + tile.memory});
  }
}

PackedOp& PackedWeights::op(OpKind kind, std::size_t layer) {
  switch (kind) {
    case OpKind::kMixIn:
      return layers_[layer].mix_in;
    case OpKind::kMixOut:
      return layers_[layer].mix_out;
    case OpKind::kMlpIn:
      return layers_[layer].mlp_in;
    case OpKind::kMlpOut:
      return layers_[layer].mlp_out;
    case OpKind::kSkim:
    case OpKind::kScreen:
      return screen_;
    case OpKind::kRecompute:
      return head_;
    default:
      SLUICE_CHECK(kind == OpKind::kHead);
      return head_;
  }
}

const PackedOp& PackedWeights::of(OpKind kind, std::size_t layer) const {
  return const_cast<PackedWeights*>(this)->op(kind, layer);
}

}  // namespace sluice::cpu
