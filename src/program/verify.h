// Proof that a Program's waits suffice. It shares nothing with the derivation of the waits: it takes tasks, waits and
// signals as they are, and judges them by what the tasks touch (regions.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "program/program.h"

namespace sluice::program {

// The empty text if
//   1. running the list in order satisfies every wait, and every counter reaches its target exactly;
//   2. every element of every op's output is written exactly once, and nothing else is;
//   3. activations are read only after the step wrote them;
//   4. every pair of tasks that touch the same element, one of them writing, is ordered by the waits: in a step alone and
//      in three steps in a row, where each reuses all buffers of the one before.
// Else a sentence that names the tasks, the buffer and the elements of the first violation.
//
// A wait orders only what it implies in every execution: all tasks that bump its counter, if it waits for all of them,
// and what these waited for; nothing, if it waits for fewer, since any of them may be the ones that came.
std::string verify(const Program& program);

// Throws Error with that sentence. For SLUICE_VERIFY=1.
void require_valid(const Program& program);

// Waits that ask for more than the data: some task that bumps the counter shares no element with the waiting one (of which
// one of them writes). Indices into Program::waits. Waits on the step before are left out: that is where a step ends.
std::vector<std::uint32_t> coarse_waits(const Program& program);

// "mix_out of layer 3, rows 0-15, tile 2"
std::string describe(const Program& program, const Task& task);

}  // namespace sluice::program
