// What a launch has to say, for programs: a line of JSON for each launch in the file that SLUICE_PTX_REPORT names.
#pragma once

#include <cstdint>

#include "ptx/machine.h"

namespace sluice::ptx::api {

// Appends the line. Does nothing without the variable; throws Error if the file can't be written.
void report_launch(const Kernel& kernel, const LaunchOptions& options, std::uint64_t number,
                   const LaunchResult& result);

}  // namespace sluice::ptx::api
