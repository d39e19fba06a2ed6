// `bench` on a GPU, or on the PTX machine in a GPU's place: the same cases and report as on the CPU (bench.cpp).
//
// A run's time is that between two events on the device, before its first launch and behind its last, so what the host does between
// launches counts. Decode of one sequence goes several tokens a launch, all other steps are a launch each.
#pragma once

#include "cli/bench_report.h"
#include "cli/bench_subject.h"
#include "cli/power_guard.h"

namespace sluice::cli {

// `guard` is there if options.power_limits is. Throws Interrupted on Ctrl-C.
BenchReport bench_on_gpu(const BenchOptions& options, const BenchPlan& plan, BenchSubject& subject,
                         PowerGuard* guard);

}  // namespace sluice::cli
