// Orders in which tasks may run.
#pragma once

#include <cstdint>
#include <vector>

#include "program/program.h"

namespace sluice::program {

// An order of all tasks of a step, one at a time, that the waits allow, drawn by `seed`: tests run a Program in many of
// them and want the same bits. Some seeds prefer the tasks that stand last in the list, or starve one op, or keep to one
// group of rows: what threads do by chance, on purpose. Aborts if no task may run (verify rejects such a Program).
std::vector<std::uint32_t> adversarial_order(const Program& program, std::uint64_t seed);

}  // namespace sluice::program
