// The arithmetic of tasks, one table of functions per instruction set. The files kernels_*.cpp hold the same functions for
// the baseline, AVX2 with FMA, and AVX-512 with or without BF16; what needs no special instruction is written once
// (kernels_common.h) and compiled in each.
//
// Packed weights. 16 output columns are a panel: lanes of a vector. Within a panel the K weights of its columns follow
// each other, in pairs for bf16: [panel][K / 2][16][2], in singles for fp32: [panel][K][16]. A pair in each of 16 lanes
// is what a bf16 dot-product instruction takes, and 16 such vectors are what an AMX B tile takes.
//
// A row of outputs is computed in the same order whatever stands beside it: for each element one sum over K in order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::cpu {

inline constexpr std::size_t kLanes = 16;

// How a kernel wants the activations that meet bf16 weights.
enum class ActivationType : std::uint8_t { kF32, kBF16 };

// The most rows that the delta rule of a long span takes at once (delta_chunk.h).
inline constexpr std::size_t kMaxDeltaChunk = 32;

// What the delta rule in chunks needs beside products of bf16. ld: elements from row to row.
struct DeltaChunkKernels {
  // y [rows, n] = factor y + x [rows, depth] w [depth, n], all fp32 as they lie in memory. With factor 0 y isn't read.
  void (*multiply)(const float* x, std::size_t ldx, std::size_t rows, const float* w, std::size_t ldw,
                   std::size_t depth, std::size_t n, float factor, float* y, std::size_t ldy);

  // out [n, rows] = x [rows, n] transposed.
  void (*transpose)(const float* x, std::size_t rows, std::size_t n, float* out, std::size_t ldo);

  // y_i = a_i x_i + b_i y_i for the rows of x and y [rows, n]. Without b (null) y isn't read.
  void (*scale_rows)(const float* a, const float* x, std::size_t ldx, const float* b, std::size_t rows,
                     std::size_t n, float* y, std::size_t ldy);

  // From products of a chunk's keys with its keys and of its queries with its keys, [2, rows, ld], what a row takes from which,
  // [2, rows, ld]: with E_ij = decay[j + 1] ... decay[i], -beta[i] E_ij products_ij where j < i, then E_ij products_ij where
  // j <= i, all others 0. At most kMaxDeltaChunk rows; ld: as many, up to a multiple of 16.
  void (*decay_products)(const float* products, const float* decay, const float* beta, std::size_t rows,
                         std::size_t ld, float* factors);

  // x [rows, n], n a multiple of 16, becomes the X with X_i = x_i + Σ_{j < i} factors_ij X_j. factors [rows, ld].
  void (*solve)(const float* factors, std::size_t ld, std::size_t rows, float* x, std::size_t n);

  // scale_i x_i of n rows [n, dim], rounded to bf16 and packed as pack_values does. Without `scale` (null) 1.
  void (*pack_rows)(const float* x, std::size_t ldx, std::size_t n, std::size_t dim, const float* scale,
                    std::uint16_t* out);

  // Columns of packed bf16 panels as rows: out [depth, ldo], ldo = 16 * n_panels.
  void (*unpack_transposed)(const std::uint16_t* packed, std::size_t depth, std::size_t n_panels,
                            std::uint16_t* out);
};

// A row of activations as `screen` takes it (screen.h).
struct ScreenRow {
  const std::int16_t* values = nullptr;  // q [depth]
  const std::int8_t* halves = nullptr;   // the same in two bytes, q = 256 a + b: [depth / 4][a, b][4]
  std::uint32_t offset = 0;              // 128 Σ q
  float scale = 0;                       // s
  float reach = 0;                       // X
  float blur = 0;                        // Y
  float least = 0;                       // τ
};

// Weights that a worker reads when it is done with those it multiplies by: a kernel has them fetched (fetch.h).
struct NextWeights {
  const void* first = nullptr;  // nothing: none
  std::size_t stride = 0;       // bytes from one to the next of the kFetchStreams that are read side by side
};

inline constexpr std::size_t kFetchAhead = 1024;  // bytes of each of them that are fetched before their use
inline constexpr std::size_t kFetchStreams = 4;

struct Kernels {
  const char* name;            // "portable", "avx2", "avx512", "avx512_bf16", "amx_bf16"
  ActivationType activations;  // beside bf16 weights; beside fp32 weights they are always fp32

  // y [rows, 16 * n_panels] = x [rows, depth] W, W packed. ld: elements from row to row. depth is even, and not 0. An element's
  // bits depend on its row of x, its column of W and the function. Rows of long spans (RowGroup::is_short is false) take
  // matmul_bf16_long, which may be the same function as matmul_bf16.
  void (*matmul_f32)(const float* w, std::size_t depth, std::size_t n_panels, const float* x, std::size_t ldx,
                     std::size_t rows, float* y, std::size_t ldy, NextWeights next);
  void (*matmul_bf16)(const std::uint16_t* w, std::size_t depth, std::size_t n_panels, const void* x,
                      std::size_t ldx, std::size_t rows, float* y, std::size_t ldy, NextWeights next);
  void (*matmul_bf16_long)(const std::uint16_t* w, std::size_t depth, std::size_t n_panels, const void* x,
                           std::size_t ldx, std::size_t rows, float* y, std::size_t ldy, NextWeights next);

  // Bounds of y = x W, which matmul_bf16, matmul_bf16_long and matmul_f32 keep: lower and upper [n_rows, 16 * n_panels], from
  // panels of screen.h. depth is a multiple of four. The same bits from every table.
  void (*screen)(const std::uint8_t* panels, std::size_t depth, std::size_t n_panels, const ScreenRow* rows,
                 std::size_t n_rows, float* lower, float* upper, std::size_t ld, NextWeights next);

  // Rounds to nearest even.
  void (*to_bf16)(const float* x, std::size_t n, std::uint16_t* out);

  // Σ x², in sixteen sums that are then added pairwise.
  float (*sum_of_squares)(const float* x, std::size_t n);

  // out = x * scale * weight, elementwise.
  void (*scale_by)(const float* x, const float* weight, float scale, std::size_t n, float* out);

  // x += y
  void (*add)(const float* y, std::size_t n, float* x);

  // out = silu(gate) * up
  void (*silu_mul)(const float* gate, const float* up, std::size_t n, float* out);

  // out = x * sigmoid(gate)
  void (*sigmoid_mul)(const float* x, const float* gate, std::size_t n, float* out);

  // Causal depthwise convolution with SiLU, n channels of `rows` rows: x [rows, n], ldx elements from row to row; state
  // [kernel - 1, n] holds the inputs before them, oldest first, and then the last ones; taps [kernel, n]; out [rows, n].
  void (*conv_silu)(const float* x, std::size_t ldx, std::size_t rows, const float* taps, std::size_t kernel,
                    std::size_t n, float* state, float* out);

  // The gated delta rule of one V head over the rows of a span (docs/models.md §2): state [key_dim, value_dim]; query
  // [rows, key_dim] normalised and scaled; key [rows, key_dim] normalised; value [rows, value_dim]; decay [rows] = exp(g);
  // beta [rows]; out [rows, value_dim]. `scratch` [rows]. Row by row: any cut of a sequence into spans gives the same bits.
  void (*delta_rule)(float* state, const float* query, const float* key, const float* value,
                     const float* decay, const float* beta, std::size_t rows, std::size_t key_dim,
                     std::size_t value_dim, float* scratch, float* out);
  DeltaChunkKernels delta_chunk;

  // Attention of n_queries query vectors [n_queries, dim] (scaled) over `n` positions of keys and values in bf16
  // [positions, dim] each, `ld` elements from position to position. Continues an online softmax: maximum and sum
  // [n_queries], weighted values out [n_queries, dim]. The first call finds maximum -infinity, sum 0, out 0.
  void (*attend)(const float* queries, std::size_t n_queries, const std::uint16_t* keys,
                 const std::uint16_t* values, std::size_t ld, std::size_t n, std::size_t dim, float* maximum,
                 float* sum, float* out);

  // Keys or values of n positions in bf16, [n, dim] each, packed as weights: those of keys have positions as columns and K =
  // dim, up to an even number; those of values have dims as columns and K = n up to whole panels. Zeros for what isn't there.
  void (*pack_keys)(const std::uint16_t* keys, std::size_t n, std::size_t dim, std::uint16_t* out);
  void (*pack_values)(const std::uint16_t* values, std::size_t n, std::size_t dim, std::uint16_t* out);

  // One block of an online softmax, in place: scores [padded] become weights relative to the new maximum, 0 from `n` (at
  // least 1) to `padded`, a multiple of 16. `factor` is what the new maximum makes of earlier weights.
  void (*soften)(float* scores, std::size_t n, std::size_t padded, float* maximum, float* sum, float* factor);

  // out = out * factor + x
  void (*scale_and_add)(const float* x, float factor, std::size_t n, float* out);

  // The largest of n values, -infinity if there is none or all are NaN.
  float (*largest)(const float* x, std::size_t n);
};

// All that this processor and system run, best first; the last is the portable one.
const Kernels* const* available_kernels(std::size_t* n);

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512Bf16Kernels;
extern const Kernels kAmxBf16Kernels;  // the process must be allowed to use tiles
#endif

}  // namespace sluice::cpu
