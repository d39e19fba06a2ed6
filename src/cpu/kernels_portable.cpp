// The baseline: what every processor runs. fp32 activations, so that it is also the most exact of the tables.
#include "cpu/kernels.h"
#include "cpu/kernels_common.h"

namespace sluice::cpu {
namespace {

template <size_t Rows>
inline void panel_bf16(const uint16_t* w, size_t depth, const float* x, size_t ldx, float* y, size_t ldy) {
  f32x16 sums[Rows] = {};
  for (size_t k = 0; k < depth; k += 2) {
    u32x16 pairs;
    memcpy(&pairs, w + k * kWidth, sizeof pairs);
    const f32x16 even = (f32x16)(pairs << 16);
    const f32x16 odd = (f32x16)(pairs & 0xFFFF0000U);
    for (size_t row = 0; row < Rows; ++row) {
      sums[row] += even * all(x[row * ldx + k]);
      sums[row] += odd * all(x[row * ldx + k + 1]);
    }
  }
  for (size_t row = 0; row < Rows; ++row) store(y + row * ldy, sums[row]);
}

void matmul_bf16(const uint16_t* w, size_t depth, size_t n_panels, const void* activations, size_t ldx,
                 size_t rows, float* y, size_t ldy, NextWeights next) {
  fetch_start(next);
  const float* x = static_cast<const float*>(activations);
  for (size_t panel = 0; panel < n_panels; ++panel) {
    const uint16_t* weights = w + panel * depth * kWidth;
    float* out = y + panel * kWidth;
    size_t row = 0;
    for (; row + 2 <= rows; row += 2) panel_bf16<2>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
    if (row < rows) panel_bf16<1>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
  }
}

}  // namespace

const Kernels kPortableKernels =
    kernels_of("portable", ActivationType::kF32, matmul_bf16, matmul_bf16, screen_dots<PortableBytes>);

}  // namespace sluice::cpu
