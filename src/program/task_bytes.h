// What each task of a Program has to move: for traces.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/weights.h"
#include "program/program.h"

namespace sluice::program {

// [tasks]  The bytes of `cost_of` (report.h), which are an op's, shared out among its tasks: of weight ops by columns, so by the
// weights that a task reads; rows that go through the same weights in several groups share them, since they have to come from
// memory once. Attention by the positions of its KV splits. The sum over an op's tasks is exactly the op's bytes.
std::vector<std::size_t> bytes_of_tasks(const Program& program, const model::Weights& weights,
                                        std::span<const std::size_t> lengths);

}  // namespace sluice::program
