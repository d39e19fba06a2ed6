// AVX2 with FMA. A bf16 weight is the upper half of an fp32: a shift or a mask makes it one, activations stay fp32.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/kernels_common.h"

namespace sluice::cpu {
namespace {

// Rows × 16 columns: two sums of eight lanes a row.
template <size_t Rows>
inline void panel_bf16(const uint16_t* w, size_t depth, const float* x, size_t ldx, float* y, size_t ldy) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
  __m256 low[Rows];
  __m256 high[Rows];
  for (size_t row = 0; row < Rows; ++row) low[row] = high[row] = _mm256_setzero_ps();
  for (size_t k = 0; k < depth; k += 2) {
    const auto* at = reinterpret_cast<const __m256i*>(w + k * kWidth);
    const __m256i pairs_low = _mm256_load_si256(at);
    const __m256i pairs_high = _mm256_load_si256(at + 1);
    const __m256 even_low = _mm256_castsi256_ps(_mm256_slli_epi32(pairs_low, 16));
    const __m256 even_high = _mm256_castsi256_ps(_mm256_slli_epi32(pairs_high, 16));
    const __m256 odd_low = _mm256_castsi256_ps(_mm256_and_si256(pairs_low, upper));
    const __m256 odd_high = _mm256_castsi256_ps(_mm256_and_si256(pairs_high, upper));
    for (size_t row = 0; row < Rows; ++row) {
      const __m256 even = _mm256_broadcast_ss(x + row * ldx + k);
      const __m256 odd = _mm256_broadcast_ss(x + row * ldx + k + 1);
      low[row] = _mm256_fmadd_ps(even_low, even, low[row]);
      high[row] = _mm256_fmadd_ps(even_high, even, high[row]);
      low[row] = _mm256_fmadd_ps(odd_low, odd, low[row]);
      high[row] = _mm256_fmadd_ps(odd_high, odd, high[row]);
    }
  }
  for (size_t row = 0; row < Rows; ++row) {
    _mm256_storeu_ps(y + row * ldy, low[row]);
    _mm256_storeu_ps(y + row * ldy + 8, high[row]);
  }
}

void matmul_bf16(const uint16_t* w, size_t depth, size_t n_panels, const void* activations, size_t ldx,
                 size_t rows, float* y, size_t ldy, NextWeights next) {
  fetch_start(next);
  const auto* x = static_cast<const float*>(activations);
  for (size_t panel = 0; panel < n_panels; ++panel) {
    const uint16_t* weights = w + panel * depth * kWidth;
    float* out = y + panel * kWidth;
    size_t row = 0;
    for (; row + 4 <= rows; row += 4) panel_bf16<4>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
    for (; row < rows; ++row) panel_bf16<1>(weights, depth, x + row * ldx, ldx, out + row * ldy, ldy);
  }
}

}  // namespace

const Kernels kAvx2Kernels =
    kernels_of("avx2", ActivationType::kF32, matmul_bf16, matmul_bf16, screen_dots<Avx2Words>);

}  // namespace sluice::cpu
#endif
