// AVX-512 with BF16: a dot product of two bf16 pairs, added to each of sixteen fp32 sums, is one instruction. Activations are
// rounded to bf16 for it.
#if defined(__x86_64__)
#include "cpu/kernels.h"
#include "cpu/kernels_common.h"
#include "cpu/matmul_dots.h"
#include "cpu/matrix_instructions.h"

namespace sluice::cpu {
namespace {

void matmul_bf16(const uint16_t* w, size_t depth, size_t n_panels, const void* x, size_t ldx, size_t rows,
                 float* y, size_t ldy, NextWeights next) {
  matmul_dots<Avx512Dots>({w, depth, n_panels, static_cast<const uint16_t*>(x), ldx, rows, y, ldy, next});
}

}  // namespace

const Kernels kAvx512Bf16Kernels =
    kernels_of("avx512_bf16", ActivationType::kBF16, matmul_bf16, matmul_bf16, screen_dots<Avx512Bytes>);

}  // namespace sluice::cpu
#endif
