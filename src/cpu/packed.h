// Weights in the layout of kernels.h, made once at load.
#pragma once

#include <cstddef>
#include <vector>

#include "base/huge_memory.h"
#include "cpu/load_events.h"
#include "cpu/packed_cache.h"
#include "cpu/packing_plan.h"
#include "cpu/workers.h"
#include "model/weights.h"
#include "program/builder.h"
#include "program/program.h"

namespace sluice::cpu {

// The weights of one tile of one op: n_panels panels of `depth` (even; zeros behind the model's own).
struct PackedTile {
  bool is_bf16 = false;  // else fp32
  std::size_t n_panels = 0;
  const std::byte* data = nullptr;  // aligned to 64
};

// The tiles of a weight op of a layer, as program::tile_columns cuts them. A tile of mlp_in has the panels of its columns of
// gate, then those of up.
struct PackedOp {
  std::size_t depth = 0;
  std::vector<PackedTile> tiles;
};

class PackedWeights {
 public:
  // Packs all weight ops of `model` on `workers`. bf16 weights stay bf16, all others become fp32 (exactly). Each mapped page
  // of the model's files is given back when it has been packed. With a cache, reads the packed file instead if there is
  // one, else writes it; what goes wrong with it is a warning. Throws Error if a weight of `model` is infinite or not a
  // number, or if a file has changed meanwhile. `screened`: the narrower copy of the head, too (of(kScreen)).
  PackedWeights(const model::Model& model, const program::Tiling& tiling, Workers& workers,
                const PackedCache* cache = nullptr, const LoadEvents& events = {}, bool screened = false);

  const PackedOp& of(program::OpKind kind, std::size_t layer) const;
  bool is_screened() const { return !screen_.tiles.empty(); }
  std::size_t bytes() const { return block_.bytes().size(); }
  bool from_file() const { return from_file_; }  // read, not packed

 private:
  struct LayerOps {
    PackedOp mix_in, mix_out, mlp_in, mlp_out;
  };
  PackedWeights(const model::Model& model, const PackingPlan& plan, Workers& workers,
                const PackedCache* cache, const LoadEvents& events);
  PackedOp& op(program::OpKind kind, std::size_t layer);

  HugeMemory block_;
  std::vector<LayerOps> layers_;
  PackedOp head_;
  PackedOp screen_;
  bool from_file_ = false;
};

}  // namespace sluice::cpu
