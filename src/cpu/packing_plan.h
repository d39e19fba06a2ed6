// Where every weight goes: which row of which matrix becomes which lane of which panel, in memory and in the packed file.
//
// In memory, ops follow each other, in them tiles, in those the columns of each source: mlp_in has two, gate and up. How ops
// are cut into tiles depends on the number of workers. In the file, sources come before tiles, so that files of the same
// panels are the same however they are cut.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/hash.h"
#include "cpu/kernels.h"
#include "cpu/panels.h"
#include "model/weights.h"
#include "program/builder.h"
#include "program/program.h"

namespace sluice::cpu {

struct OpPlan {
  struct Tile {
    bool is_bf16 = false;  // all its weights are; else it is packed as fp32, or as kScreen wants it
    std::size_t n_panels = 0;
    std::size_t memory = 0;  // its offset
  };
  program::OpKind kind = program::OpKind::kHead;
  std::size_t layer = 0;
  std::size_t depth = 0;                                              // even; kScreen: a multiple of four
  std::vector<std::function<SourceRow(std::size_t column)>> sources;  // of its columns
  std::vector<Tile> tiles;
};

// The columns of one tile out of one source, in whole panels.
struct PackedPart {
  std::uint32_t op = 0;
  std::uint32_t tile = 0;
  std::uint32_t source = 0;
  program::Columns columns;
  std::size_t memory = 0;  // offsets
  std::size_t file = 0;
  std::size_t bytes = 0;

  std::size_t n_panels() const { return (columns.size() + kLanes - 1) / kLanes; }
  std::size_t panel_bytes() const { return bytes / n_panels(); }
};

// Of a panel of an op's weights.
std::size_t panel_bytes(program::OpKind kind, std::size_t depth, bool is_bf16);

class PackingPlan {
 public:
  // `model` must outlive the plan. With `screened` there is the narrower copy of the head (screen.h), too.
  PackingPlan(const model::Model& model, const program::Tiling& tiling, bool screened = false);

  const std::vector<OpPlan>& ops() const { return ops_; }
  const std::vector<PackedPart>& parts() const { return parts_; }  // in order of memory
  std::size_t bytes() const { return bytes_; }                     // in memory, and in the file

  std::array<SourceRow, kLanes> rows_of(const PackedPart& part, std::size_t panel) const;

  // Of all that decides the file's bytes beside the weights themselves.
  Hash128 fingerprint() const;

 private:
  void add_op(const model::ModelConfig& config, model::LayerKind layer, const program::Tiling& tiling,
              OpPlan op);

  std::vector<OpPlan> ops_;
  std::vector<PackedPart> parts_;
  std::size_t bytes_ = 0;
};

}  // namespace sluice::cpu
