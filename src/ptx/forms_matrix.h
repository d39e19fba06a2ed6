// PTX ISA, "Warp Level Matrix Instructions: mma". D = A B + C for A of M × K, B of K × 8, C and D of M × 8.
//
// A register of A holds n elements of a lane, so that the 32 lanes hold a block of 8 rows and 4 n columns in its natural order:
// lane 4 r + q has row r, columns q n … q n + n - 1. Blocks go down the rows first. B lies the same way, transposed. A
// register of C holds one element (or two halves) of a lane: row r, columns 2 q and 2 q + 1 in successive registers.
//
// Sums go through k in order, one rounding per product and sum in fp32 (products of these types are exact in it). The ISA
// leaves the order and the rounding open: a launch that varies what is open begins at another k. Any order is within
// γ_K (Σ|a b| + |c|) of the exact sum, γ_K = K u / (1 - K u), u = 2^-24.
#pragma once

#include "ptx/forms_core.h"

namespace sluice::ptx::SLUICE_PTX_ISA {

struct TF32 {
  std::uint32_t bits;
};

// An element as what sums are computed in.
template <class T>
auto factor(T x) {
  if constexpr (Narrow<T>)
    return widen(x);
  else if constexpr (std::is_same_v<T, TF32>)
    return std::bit_cast<float>(x.bits & 0xffffe000U);  // the hardware ignores the rest
  else if constexpr (sizeof(T) == 1)
    return std::int32_t{x};
  else
    return x;
}
// How many of them a register holds.
template <class T>
inline constexpr int kPerRegister = sizeof(T) < 4 ? static_cast<int>(4 / sizeof(T)) : 1;

inline float multiply_add(float a, float b, float c) {
#ifdef __FMA__
  return __builtin_fmaf(a, b, c);  // the same as a product that is exact, and a sum
#else
  return a * b + c;
#endif
}
inline double multiply_add(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
inline std::int32_t multiply_add(std::int32_t a, std::int32_t b, std::int32_t c) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a * b) + static_cast<std::uint32_t>(c));
}
inline std::int64_t multiply_add(std::int32_t a, std::int32_t b, std::int64_t c) {
  return std::int64_t{a} * b + c;
}

template <class A, class B, class C, int M, int K, bool kSaturate>
void multiply_matrices(const Operation& op, const Rows& rows, std::uint32_t /*mask: all*/) {
  using Value = decltype(factor(A{}));
  using Sum = std::conditional_t<kSaturate, std::int64_t, Value>;
  constexpr int kDown = M / 8;  // blocks of 8 rows
  constexpr int kPer = kPerRegister<A>;
  constexpr int kColumns = 4 * kPer;
  constexpr int kAcross = K / kColumns;
  constexpr int kPerC = kPerRegister<C>;
  constexpr int kC = kDown * 2 / kPerC;  // registers of C
  const Row* d_rows = op.more;
  const Row* a_rows = d_rows + kC;
  const Row* b_rows = a_rows + std::ptrdiff_t{kDown} * kAcross;
  const Row* c_rows = b_rows + kAcross;

  alignas(64) Value a[M][K];
  alignas(64) Value b[K][8];
  for (int block = 0; block < kDown * kAcross; ++block) {
    const A* lanes = rows.at<const A>(a_rows[block]);
    const int top = block % kDown * 8;
    const int left = block / kDown * kColumns;
    for (int r = 0; r < 8; ++r) {
      for (int k = 0; k < kColumns; ++k) a[top + r][left + k] = factor(lanes[r * kColumns + k]);
    }
  }
  // Columns of B, C and D stand in the order that registers of C have them, first the even ones: then C's rows need no
  // rearrangement, and B is transposed anyway.
  for (int block = 0; block < kAcross; ++block) {
    const B* lanes = rows.at<const B>(b_rows[block]);
    alignas(64) Value by_column[8][kColumns];
    for (int n = 0; n < 8; ++n) {
      for (int k = 0; k < kColumns; ++k) by_column[n][k] = factor(lanes[n * kColumns + k]);
    }
    for (int k = 0; k < kColumns; ++k) {
      for (int n = 0; n < 8; ++n) b[block * kColumns + k][n] = by_column[n % 4 * 2 + n / 4][k];
    }
  }
  // Element 4 odd + q of a row is in lane 4 r + q, in the register for `odd` or as that half of one.
  const auto c_lane = [](int r, int n) { return kPerC == 1 ? r * 4 + n % 4 : (r * 4 + n % 4) * 2 + n / 4; };
  const auto d_value = [](Sum x) {
    if constexpr (kSaturate) {
      constexpr std::int64_t kHigh = std::numeric_limits<std::int32_t>::max();
      return static_cast<C>(x > kHigh ? kHigh : (x < -kHigh - 1 ? -kHigh - 1 : x));
    } else {
      return to_lane<C>(x);
    }
  };
  const auto first = static_cast<int>(inexact_seed % K);
  // All of C is read before the first of D is written: a register may be one of both.
  alignas(64) Sum sums[kDown][8][8];
  const auto lanes_of = [&](const Row* registers, int half, int odd) {
    return rows.at<C>(registers[kPerC == 1 ? half * 2 + odd : half]);
  };
  for (int half = 0; half < kDown; ++half) {
    auto& sum = sums[half];  // of 8 rows, which are independent
    const C* c_lanes[] = {lanes_of(c_rows, half, 0), lanes_of(c_rows, half, 1)};
    for (int r = 0; r < 8; ++r) {
      for (int n = 0; n < 8; ++n) sum[r][n] = factor(c_lanes[n / 4][c_lane(r, n)]);
    }
    for (int step = 0; step < K; ++step) {
      const int k = (step + first) % K;
      for (int r = 0; r < 8; ++r) {
        for (int n = 0; n < 8; ++n) sum[r][n] = multiply_add(a[half * 8 + r][k], b[k][n], sum[r][n]);
      }
    }
  }
  for (int half = 0; half < kDown; ++half) {
    C* d_lanes[] = {lanes_of(d_rows, half, 0), lanes_of(d_rows, half, 1)};
    for (int r = 0; r < 8; ++r) {
      for (int n = 0; n < 8; ++n) d_lanes[n / 4][c_lane(r, n)] = d_value(sums[half][r][n]);
    }
  }
}

// Each of Form::registers takes a row of Form::destination's size.
template <class A, class B, class C, int M, int K, bool kSaturate = false>
Form matrix_form() {
  constexpr int kA = M * K / (32 * kPerRegister<A>);
  constexpr int kB = K * 8 / (32 * kPerRegister<A>);
  constexpr int kC = M * 8 / (32 * kPerRegister<C>);
  const Type row = sizeof(A) == 8 ? Type::kB64 : Type::kB32;
  return {&multiply_matrices<A, B, C, M, K, kSaturate>, kNever, row, {}, 0, {kC, kA, kB, kC}};
}

inline void list_matrix(FormTable& t) {
  t.add({".mma.m16n8k8.f32.f16.f16.f32"}, matrix_form<F16, F16, float, 16, 8>());
  t.add({".mma.m16n8k8.f16.f16.f16.f16"}, matrix_form<F16, F16, F16, 16, 8>());
  t.add({".mma.m16n8k16.f32.f16.f16.f32"}, matrix_form<F16, F16, float, 16, 16>());
  t.add({".mma.m16n8k16.f16.f16.f16.f16"}, matrix_form<F16, F16, F16, 16, 16>());
  t.add({".mma.m16n8k8.f32.bf16.bf16.f32"}, matrix_form<BF16, BF16, float, 16, 8>());
  t.add({".mma.m16n8k16.f32.bf16.bf16.f32"}, matrix_form<BF16, BF16, float, 16, 16>());
  t.add({".mma.m16n8k4.f32.tf32.tf32.f32"}, matrix_form<TF32, TF32, float, 16, 4>());
  t.add({".mma.m16n8k8.f32.tf32.tf32.f32"}, matrix_form<TF32, TF32, float, 16, 8>());
  t.add({".mma.m8n8k4.f64.f64.f64.f64"}, matrix_form<double, double, double, 8, 4>());
  const auto bytes = [&]<class A, class B>(const char* types) {
    const auto shape = [&]<int M, int K>(const char* name) {
      t.add({name, types}, matrix_form<A, B, std::int32_t, M, K>());
      t.add({name, "satfinite", types}, matrix_form<A, B, std::int32_t, M, K, true>());
    };
    shape.template operator()<8, 16>(".mma.m8n8k16");
    shape.template operator()<16, 16>(".mma.m16n8k16");
    shape.template operator()<16, 32>(".mma.m16n8k32");
  };
  bytes.operator()<std::int8_t, std::int8_t>("s32.s8.s8.s32");
  bytes.operator()<std::uint8_t, std::uint8_t>("s32.u8.u8.s32");
  bytes.operator()<std::int8_t, std::uint8_t>("s32.s8.u8.s32");
  bytes.operator()<std::uint8_t, std::int8_t>("s32.u8.s8.s32");
}

}  // namespace sluice::ptx::SLUICE_PTX_ISA
