// Waits and counters of a Program whose tasks are given, from what the tasks touch.
#pragma once

#include "program/program.h"

namespace sluice::program {

// Fills waits, counters and each task's waits and signal. A task waits for exactly those earlier tasks of the step that
// wrote what it reads; tasks that the same others wait for share a counter, so no wait is coarser than the data asks.
// Waits that others imply are left out, so none can be spared either.
// Tasks that nobody waits for share the step's last counter, for which the next step's embed waits.
//
// That orders writes after reads (and after earlier writes, and what is added in place) too, because each op of a layer needs all columns of its
// rows from the op before; `verify` proves it for every Program that the tests build.
void derive_waits(Program& program);

}  // namespace sluice::program
