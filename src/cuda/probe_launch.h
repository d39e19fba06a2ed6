// What measures a GPU, as host and device both see it: launches that do nothing but read memory, or multiply.
#pragma once

#include <cstdint>

namespace sluice::cuda {

inline constexpr std::uint32_t kProbeThreads = 256;  // of a block

// Reads `n` units of 16 bytes once.
struct ReadProbeLaunch {
  const void* data;
  std::uint32_t*
      sums;  // [blocks * kProbeThreads]  what each thread read, all words xor: none can be left out
  std::uint64_t n;
  std::uint32_t is_striped;  // each block reads beside the others; else a range of its own
};

// Multiplies fragments of ones on registers alone.
inline constexpr std::uint32_t kProbeSums = 8;                     // of a warp, independent of each other
inline constexpr std::uint32_t kFlopsOfProduct = 2 * 16 * 8 * 16;  // m16n8k16
struct ProductProbeLaunch {
  float* sums;  // [blocks * kProbeThreads]  4 * kProbeSums elements, each 16 * rounds
  std::uint32_t rounds;
};

}  // namespace sluice::cuda
