// A loop whose turns the workers share.
#pragma once

#include <cstddef>
#include <functional>

#include "cpu/workers.h"

namespace sluice::cpu {

// Calls work(worker, i) once for each i < n, in about that order, and `on_done` (if there is one) on the calling thread, now and
// then and in the end, with the number of turns that are over. The first exception of either ends the loop early and is thrown on.
void parallel_for(Workers& workers, std::size_t n,
                  const std::function<void(std::size_t worker, std::size_t i)>& work,
                  const std::function<void(std::size_t done)>& on_done = {});

}  // namespace sluice::cpu
