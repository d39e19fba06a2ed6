// Ctrl-C. The first one asks the program to stop in good order, the second one kills it.
#pragma once

#include <atomic>
#include <filesystem>

namespace sluice::cli {

// From now on the first SIGINT or SIGTERM sets the flag below; the next has its default effect, after the file below
// is removed. Blocking reads return early with EINTR.
void handle_interrupts();

const std::atomic<bool>& interrupt_flag();

// Throws Interrupted if the flag is set.
void throw_if_interrupted();

// The file, one at a time, that must not stay behind when a signal ends the program. Until `keep_on_kill`.
void remove_on_kill(const std::filesystem::path& file);
void keep_on_kill();

// Removes that file. Async-signal-safe.
void remove_unfinished_file();

}  // namespace sluice::cli
