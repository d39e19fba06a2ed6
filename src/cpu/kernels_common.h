// Kernels that need no special instruction, on vectors of sixteen floats. The same operations in the same order everywhere;
// only mul_add differs. Included by kernels_*.cpp only.
#pragma once

#include "cpu/fetch.h"
#include "cpu/kernels.h"
#include "cpu/kernels_attention.h"
#include "cpu/kernels_chunk.h"
#include "cpu/kernels_delta.h"
#include "cpu/kernels_vector.h"
#include "cpu/screen_dots.h"

namespace sluice::cpu {
namespace {

// y = x W on fp32 weights, in blocks of rows that keep their sums in registers.
template <size_t Rows>
inline void panel_f32(const float* w, size_t depth, const float* x, size_t ldx, float* y, size_t ldy) {
  f32x16 sums[Rows] = {};
  for (size_t k = 0; k < depth; ++k) {
    const f32x16 weights = load(w + k * kWidth);
    for (size_t row = 0; row < Rows; ++row) sums[row] += weights * all(x[row * ldx + k]);
  }
  for (size_t row = 0; row < Rows; ++row) store(y + row * ldy, sums[row]);
}

void matmul_f32(const float* w, size_t depth, size_t n_panels, const float* x, size_t ldx, size_t rows,
                float* y, size_t ldy, NextWeights next) {
  fetch_start(next);
  for (size_t panel = 0; panel < n_panels; ++panel) {
    const float* weights = w + panel * depth * kWidth;
    float* out = y + panel * kWidth;
    size_t row = 0;
    for (; row + 4 <= rows; row += 4) panel_f32<4>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
    for (; row < rows; ++row) panel_f32<1>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
  }
}

void to_bf16(const float* x, size_t n, uint16_t* out) {
  for_each_vector(n, [&](size_t i, size_t some) {
    const u16x16 rounded = __builtin_convertvector(round_to_bf16(load_some(x + i, some)), u16x16);
    if (some == kWidth) {
      memcpy(out + i, &rounded, sizeof rounded);
    } else {
      memcpy(out + i, &rounded, some * sizeof *out);
    }
  });
}

float sum_of_squares(const float* x, size_t n) {
  f32x16 sums = {};
  for_each_vector(n, [&](size_t i, size_t some) {
    const f32x16 v = load_some(x + i, some);
    sums += v * v;
  });
  return sum(sums);
}

void scale_by(const float* x, const float* weight, float scale, size_t n, float* out) {
  for_each_vector(n, [&](size_t i, size_t some) {
    store_some(out + i, load_some(x + i, some) * all(scale) * load_some(weight + i, some), some);
  });
}

void add(const float* y, size_t n, float* x) {
  for_each_vector(n, [&](size_t i, size_t some) {
    store_some(x + i, load_some(x + i, some) + load_some(y + i, some), some);
  });
}

void silu_mul(const float* gate, const float* up, size_t n, float* out) {
  for_each_vector(n, [&](size_t i, size_t some) {
    const f32x16 g = load_some(gate + i, some);
    store_some(out + i, g * vsigmoid(g) * load_some(up + i, some), some);
  });
}

void sigmoid_mul(const float* x, const float* gate, size_t n, float* out) {
  for_each_vector(n, [&](size_t i, size_t some) {
    store_some(out + i, load_some(x + i, some) * vsigmoid(load_some(gate + i, some)), some);
  });
}

// One row: `inputs` [kernel] are the rows of inputs that it sees, oldest first, its own the last.
template <size_t Kernel>
inline void conv_row(const float* const (&inputs)[Kernel], const float* taps, size_t n, float* out) {
  for_each_vector(n, [&](size_t i, size_t some) {
    f32x16 total = {};
    for (size_t tap = 0; tap < Kernel; ++tap)
      total += load_some(taps + tap * n + i, some) * load_some(inputs[tap] + i, some);
    store_some(out + i, total * vsigmoid(total), some);
  });
}

// Rows lie far apart, so the hardware doesn't foresee the next ones.
template <size_t Kernel>
inline void conv_rows(const float* x, size_t ldx, size_t rows, const float* taps, size_t n, float* state,
                      float* out) {
  constexpr size_t kAhead = 4;
  constexpr size_t kLineFloats = 16;
  for (size_t row = 0; row < rows; ++row) {
    const float* inputs[Kernel];
    for (size_t tap = 0; tap < Kernel; ++tap)
      inputs[tap] = row + tap + 1 < Kernel ? state + (row + tap) * n : x + (row + tap + 1 - Kernel) * ldx;
    if (row + kAhead < rows)
      for (size_t i = 0; i < n; i += kLineFloats) __builtin_prefetch(x + (row + kAhead) * ldx + i, 0, 2);
    conv_row<Kernel>(inputs, taps, n, out + row * n);
  }
  for (size_t i = 0; i + 1 < Kernel; ++i) {  // oldest first: what is overwritten is no longer needed
    const float* from = rows + i + 1 < Kernel ? state + (rows + i) * n : x + (rows + i + 1 - Kernel) * ldx;
    memcpy(state + i * n, from, n * sizeof *state);
  }
}

// Any kernel size, in the same order.
inline void conv_row_of(const float* x, const float* taps, size_t kernel, size_t n, float* state,
                        float* out) {
  for_each_vector(n, [&](size_t i, size_t some) {
    f32x16 total = {};
    for (size_t tap = 0; tap + 1 < kernel; ++tap)
      total += load_some(taps + tap * n + i, some) * load_some(state + tap * n + i, some);
    const f32x16 now = load_some(x + i, some);
    total += load_some(taps + (kernel - 1) * n + i, some) * now;
    store_some(out + i, total * vsigmoid(total), some);
    for (size_t tap = 0; tap + 2 < kernel; ++tap)
      store_some(state + tap * n + i, load_some(state + (tap + 1) * n + i, some), some);
    if (kernel > 1) store_some(state + (kernel - 2) * n + i, now, some);
  });
}

void conv_silu(const float* x, size_t ldx, size_t rows, const float* taps, size_t kernel, size_t n,
               float* state, float* out) {
  constexpr size_t kUsual = 4;
  if (kernel == kUsual) {
    conv_rows<kUsual>(x, ldx, rows, taps, n, state, out);
    return;
  }
  for (size_t row = 0; row < rows; ++row) conv_row_of(x + row * ldx, taps, kernel, n, state, out + row * n);
}

float largest(const float* x, size_t n) {
  f32x16 most = all(-__builtin_inff());
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const f32x16 v = load(x + i);
    most = larger(v, most);
  }
  float best = largest_of(most);
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

// The table of the instruction set that the file is compiled for, with its own products on bf16.
constexpr Kernels kernels_of(const char* name, ActivationType activations,
                             decltype(Kernels::matmul_bf16) bf16, decltype(Kernels::matmul_bf16) bf16_long,
                             decltype(Kernels::screen) screen) {
  constexpr DeltaChunkKernels kDeltaChunk = {multiply, transpose, scale_rows,       decay_products,
                                             solve,    pack_rows, unpack_transposed};
  return {name,           activations, matmul_f32, bf16,        bf16_long,   screen,        to_bf16,
          sum_of_squares, scale_by,    add,        silu_mul,    sigmoid_mul, conv_silu,     delta_rule,
          kDeltaChunk,    attend,      pack_keys,  pack_values, soften,      scale_and_add, largest};
}

}  // namespace
}  // namespace sluice::cpu
