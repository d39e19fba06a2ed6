// Packing: from the model's files into the layout that kernels read.
#pragma once

#include <cstddef>
#include <span>

#include "cpu/load_events.h"
#include "cpu/packing_plan.h"
#include "cpu/workers.h"
#include "model/weights.h"

namespace sluice::cpu {

// Writes all of `block`, which has plan.bytes(). Gives every mapped page of the model's files back as soon as what lies in it
// is packed. Looks at every weight of the model, also at those that no op multiplies with: throws Error if one is infinite
// or not a number, or if a file was changed.
void pack(const model::Model& model, const PackingPlan& plan, Workers& workers, const LoadEvents& events,
          std::span<std::byte> block);

}  // namespace sluice::cpu
