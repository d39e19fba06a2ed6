// The program: its command line, and what becomes of errors.
#pragma once

namespace sluice::cli {

// Runs the command that the arguments name; returns the exit code. Throws nothing.
int run_program(int argc, const char* const* argv);

}  // namespace sluice::cli
