// AVX-512 without BF16: as AVX2, with sixteen lanes.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/kernels_common.h"

namespace sluice::cpu {
namespace {

template <size_t Rows>
inline void panel_bf16(const uint16_t* w, size_t depth, const float* x, size_t ldx, float* y, size_t ldy) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  __m512 sums[Rows];
  for (size_t row = 0; row < Rows; ++row) sums[row] = _mm512_setzero_ps();
  for (size_t k = 0; k < depth; k += 2) {
    const __m512i pairs = _mm512_load_si512(w + k * kWidth);
    const auto even = (__m512)((u32x16)pairs << 16);  // GCC 12 warns about its own intrinsic
    const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, upper));
    for (size_t row = 0; row < Rows; ++row) {
      sums[row] = _mm512_fmadd_ps(even, _mm512_set1_ps(x[row * ldx + k]), sums[row]);
      sums[row] = _mm512_fmadd_ps(odd, _mm512_set1_ps(x[row * ldx + k + 1]), sums[row]);
    }
  }
  for (size_t row = 0; row < Rows; ++row) _mm512_storeu_ps(y + row * ldy, sums[row]);
}

void matmul_bf16(const uint16_t* w, size_t depth, size_t n_panels, const void* activations, size_t ldx,
                 size_t rows, float* y, size_t ldy, NextWeights next) {
  fetch_start(next);
  const auto* x = static_cast<const float*>(activations);
  for (size_t panel = 0; panel < n_panels; ++panel) {
    const uint16_t* weights = w + panel * depth * kWidth;
    float* out = y + panel * kWidth;
    size_t row = 0;
    for (; row + 8 <= rows; row += 8) panel_bf16<8>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
    for (; row + 2 <= rows; row += 2) panel_bf16<2>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
    if (row < rows) panel_bf16<1>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
  }
}

}  // namespace

const Kernels kAvx512Kernels =
    kernels_of("avx512", ActivationType::kF32, matmul_bf16, matmul_bf16, screen_dots<Avx512Words>);

}  // namespace sluice::cpu
#endif
