// Weights on their way before they are needed. Kernels that ask for them line by line do so some kB ahead, products kFetchAhead bytes,
// and towards the end of their own for the first bytes of the next ones: memory doesn't pause between two tasks. All others ask for
// those first.
//
// Included by kernels_*.cpp, the executor and the tests; all of it is static (kernels_common.h).
#pragma once

#include <stddef.h>

#include "cpu/kernels.h"

namespace sluice::cpu {
namespace {

constexpr size_t kLineBytes = 64;  // of the caches

// For kernels that don't ask for them line by line.
inline void fetch_start(const NextWeights& next) {
  if (next.first == nullptr) return;
  for (size_t stream = 0; stream < kFetchStreams; ++stream)
    for (size_t at = 0; at < kFetchAhead; at += kLineBytes)
      __builtin_prefetch(static_cast<const char*>(next.first) + stream * next.stride + at, 0, 2);
}

}  // namespace
}  // namespace sluice::cpu
