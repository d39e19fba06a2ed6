// Makes the Program of a step's shape.
#pragma once

#include <cstddef>

#include "model/config.h"
#include "program/program.h"

namespace sluice::program {

// How ops are cut. Nothing here changes a result: a task computes every element of its output in an order of its own.
struct Tiling {
  std::size_t n_workers = 1;
  std::size_t bytes_per_weight = 2;  // on average; only the balance of tasks depends on it
  std::size_t bytes_per_tile =
      256 << 10;  // weights that a task reads: half of a worker's cache, so that the next task's
                  // can be fetched while this one's are in use
  std::size_t tile_columns = 16;  // tiles of weight ops are multiples of it, except where heads end
};

// Columns of the op's output, cut so that no tile of mix_in holds parts of two kinds of head: what waits for a head then
// waits for that head's tiles alone. Used to pack the weights, too.
std::vector<Columns> tile_columns(const model::ModelConfig& config, OpKind kind, model::LayerKind layer,
                                  const Tiling& tiling);

// Both throw Error if the shape is empty, or an output row is out of range or not in order.

// The Program's rows and groups without its ops, tasks and waits.
Program lay_out(const model::ModelConfig& config, const StepShape& shape);

Program build(const model::ModelConfig& config, const StepShape& shape, const Tiling& tiling);

}  // namespace sluice::program
