// The baseline: four floats at a time, a multiplication and an addition for each.
#include "cpu/probe_common.h"

namespace sluice::cpu {
namespace {

using f32x4 = float __attribute__((vector_size(16)));
using i16x8 = int16_t __attribute__((vector_size(16)));

constexpr size_t kSums = 10;

void fp32(size_t rounds) {
  accumulate<kSums>(rounds, f32x4{} + 0.5F, f32x4{} + 0.001F,
                    [](f32x4 sum, f32x4 a, f32x4 b) { return sum + a * b; });
}

// Bytes become 16-bit numbers first: there is no narrower multiplication.
void int8(size_t rounds) {
  accumulate<kSums>(rounds, i16x8{} + 3, i16x8{} + 5,
                    [](i16x8 sum, i16x8 a, i16x8 b) { return sum + a * b; });
}

}  // namespace

const ReadLoops kPortableReads = kAllReads<u64x2>;
const ArithmeticLoop kPortableFp32 = {"4 x fp32", kSums * 8, fp32};
const ArithmeticLoop kPortableInt8 = {"8 x int16", kSums * 16, int8};

}  // namespace sluice::cpu
