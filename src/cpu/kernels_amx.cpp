// AMX with BF16: matrix tiles for the rows of long spans. Few rows would leave most of a tile empty, and their weights come
// from memory more slowly than dot products use them: short spans have those of AVX-512.
#if defined(__x86_64__)
#include "cpu/kernels.h"
#include "cpu/kernels_common.h"
#include "cpu/matmul_dots.h"
#include "cpu/matmul_tiles.h"
#include "cpu/matrix_instructions.h"

namespace sluice::cpu {
namespace {

void matmul_bf16(const uint16_t* w, size_t depth, size_t n_panels, const void* x, size_t ldx, size_t rows,
                 float* y, size_t ldy, NextWeights next) {
  matmul_dots<Avx512Dots>({w, depth, n_panels, static_cast<const uint16_t*>(x), ldx, rows, y, ldy, next});
}

void matmul_bf16_long(const uint16_t* w, size_t depth, size_t n_panels, const void* x, size_t ldx,
                      size_t rows, float* y, size_t ldy, NextWeights next) {
  fetch_start(next);
  matmul_tiles<AmxTiles>({w, depth, n_panels, static_cast<const uint16_t*>(x), ldx, rows, y, ldy});
}

}  // namespace

const Kernels kAmxBf16Kernels =
    kernels_of("amx_bf16", ActivationType::kBF16, matmul_bf16, matmul_bf16_long, screen_dots<Avx512Bytes>);

}  // namespace sluice::cpu
#endif
