// AVX-512 with VNNI: four products of bytes and their sum in each of sixteen 32-bit lanes, one instruction.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/probe_common.h"

namespace sluice::cpu {
namespace {

constexpr size_t kSums = 16;

void int8(size_t rounds) {
  accumulate<kSums>(rounds, _mm512_set1_epi8(3), _mm512_set1_epi8(5),
                    [](__m512i sum, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(sum, a, b); });
}

}  // namespace

const ArithmeticLoop kAvx512VnniInt8 = {"512-bit vpdpbusd", kSums * 128, int8};

}  // namespace sluice::cpu
#endif
