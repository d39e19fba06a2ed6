// How the program ends: exit codes, and the ends that are not errors.
#pragma once

#include <exception>

#include "base/error.h"

namespace sluice::cli {

enum ExitCode : int { kGood = 0, kFailed = 1, kWrongUsage = 2, kInterrupted = 130 };

// The command line asks for something that can't be: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Ctrl-C: exit code 130, no message.
struct Interrupted : std::exception {};

// The reader of standard output has gone (`sluice run | head -1`). It has what it wanted: exit code 0, no message.
struct ClosedPipe : std::exception {};

}  // namespace sluice::cli
