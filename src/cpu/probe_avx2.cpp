// AVX2 with FMA.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/probe_common.h"

namespace sluice::cpu {
namespace {

using i32x8 = int32_t __attribute__((vector_size(32)));

constexpr size_t kSums = 12;

void fp32(size_t rounds) {
  accumulate<kSums>(rounds, _mm256_set1_ps(0.5F), _mm256_set1_ps(0.001F),
                    [](__m256 sum, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sum); });
}

// Unsigned times signed bytes, pairs added to 16 bits, pairs of these to 32.
void int8(size_t rounds) {
  const __m256i ones = _mm256_set1_epi16(1);
  accumulate<kSums>(rounds, _mm256_set1_epi8(3), _mm256_set1_epi8(5),
                    [ones](__m256i sum, __m256i a, __m256i b) {
                      const __m256i pairs = _mm256_maddubs_epi16(a, b);
                      return (__m256i)((i32x8)sum + (i32x8)_mm256_madd_epi16(pairs, ones));
                    });
}

}  // namespace

const ReadLoops kAvx2Reads = kAllReads<u64x4>;
const ArithmeticLoop kAvx2Fp32 = {"256-bit vfmadd231ps", kSums * 16, fp32};
const ArithmeticLoop kAvx2Int8 = {"256-bit vpmaddubsw", kSums * 64, int8};

}  // namespace sluice::cpu
#endif
