// AVX-512 without extensions.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/probe_common.h"

namespace sluice::cpu {
namespace {

using i32x16 = int32_t __attribute__((vector_size(64)));

constexpr size_t kSums = 16;

void fp32(size_t rounds) {
  accumulate<kSums>(rounds, _mm512_set1_ps(0.5F), _mm512_set1_ps(0.001F),
                    [](__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); });
}

void int8(size_t rounds) {
  const __m512i ones = _mm512_set1_epi16(1);
  accumulate<kSums>(rounds, _mm512_set1_epi8(3), _mm512_set1_epi8(5),
                    [ones](__m512i sum, __m512i a, __m512i b) {
                      const __m512i pairs = _mm512_maddubs_epi16(a, b);
                      return (__m512i)((i32x16)sum + (i32x16)_mm512_madd_epi16(pairs, ones));
                    });
}

}  // namespace

const ReadLoops kAvx512Reads = kAllReads<u64x8>;
const ArithmeticLoop kAvx512Fp32 = {"512-bit vfmadd231ps", kSums * 32, fp32};
const ArithmeticLoop kAvx512Int8 = {"512-bit vpmaddubsw", kSums * 128, int8};

}  // namespace sluice::cpu
#endif
