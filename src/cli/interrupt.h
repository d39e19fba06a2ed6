// Ctrl-C. The first one asks the program to stop in good order, the second one kills it.
#pragma once

#include <atomic>

namespace sluice::cli {

// From now on SIGINT and SIGTERM set the flag below; a second one has its default effect. Blocking reads
// return early with EINTR.
void handle_interrupts();

const std::atomic<bool>& interrupt_flag();

// Throws Interrupted if the flag is set.
void throw_if_interrupted();

}  // namespace sluice::cli
