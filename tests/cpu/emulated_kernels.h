// The tables whose instructions not every machine has, on the twins of these: the kernels' own code, on any machine. The
// rest of them is the portable table.
#pragma once

#include <array>

#include "cpu/kernels.h"
#include "cpu/matmul_dots.h"
#include "cpu/matmul_tiles.h"
#include "cpu/matrix_instructions.h"
#include "cpu/screen_dots.h"

namespace sluice::cpu {

inline Kernels emulated_kernels(const char* name) {
  Kernels kernels = kPortableKernels;
  kernels.name = name;
  kernels.activations = ActivationType::kBF16;
  kernels.matmul_bf16 = [](const std::uint16_t* w, std::size_t depth, std::size_t n_panels, const void* x,
                           std::size_t ldx, std::size_t rows, float* y, std::size_t ldy, NextWeights next) {
    matmul_dots<EmulatedDots>(
        {w, depth, n_panels, static_cast<const std::uint16_t*>(x), ldx, rows, y, ldy, next});
  };
  kernels.matmul_bf16_long = kernels.matmul_bf16;
  kernels.screen = screen_dots<EmulatedBytes>;
  return kernels;
}

// "avx512_bf16_emulated", "amx_bf16_emulated"
inline std::array<const Kernels*, 2> emulated_tables() {
  static const Kernels avx512 = emulated_kernels("avx512_bf16_emulated");
  static const Kernels amx = [] {
    Kernels kernels = emulated_kernels("amx_bf16_emulated");
    kernels.matmul_bf16_long = [](const std::uint16_t* w, std::size_t depth, std::size_t n_panels,
                                  const void* x, std::size_t ldx, std::size_t rows, float* y, std::size_t ldy,
                                  NextWeights next) {
      fetch_start(next);
      matmul_tiles<EmulatedTiles>(
          {w, depth, n_panels, static_cast<const std::uint16_t*>(x), ldx, rows, y, ldy});
    };
    return kernels;
  }();
  return {&avx512, &amx};
}

}  // namespace sluice::cpu
