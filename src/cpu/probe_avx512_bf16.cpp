// AVX-512 with BF16: two products and their sum in each of sixteen fp32 lanes, one instruction.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/probe_common.h"

namespace sluice::cpu {
namespace {

constexpr size_t kSums = 16;

void bf16(size_t rounds) {
  accumulate<kSums>(rounds, _mm512_castsi512_ps(_mm512_set1_epi32(0x3F003F00)),
                    _mm512_castsi512_ps(_mm512_set1_epi32(0x3A803A80)), [](__m512 sum, __m512 a, __m512 b) {
                      return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
                    });
}

}  // namespace

const ArithmeticLoop kAvx512Bf16 = {"512-bit vdpbf16ps", kSums * 64, bf16};

}  // namespace sluice::cpu
#endif
