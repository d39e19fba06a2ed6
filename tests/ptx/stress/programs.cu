// Control flow and arithmetic that ordinary code has: switches, calls, local arrays, tables, divergence, all widths.
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

__constant__ uint32_t primes[16] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53};
__device__ uint32_t salt = 12345;

// A machine with a stack in local memory and a dense switch.
extern "C" __global__ void interpreter(const uint8_t* code, unsigned length, uint32_t* out, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  uint32_t stack[8] = {i, salt, 7, 1, 2, 3, 4, 5};
  unsigned top = i % 3;
  for (unsigned at = 0; at < length; ++at) {
    const uint32_t a = stack[top & 7], b = stack[(top + 1) & 7];
    uint32_t result = 0;
    switch ((code[at] + i) % 12) {
      case 0: result = a + b; break;
      case 1: result = a * b; break;
      case 2: result = a ^ (b << (a & 31)); break;
      case 3: result = a / (b | 1); break;
      case 4: result = a % (b | 1); break;
      case 5: result = __popc(a) + __clz(b); break;
      case 6: result = __brev(a) - b; break;
      case 7: result = __byte_perm(a, b, 0x5140 + (at & 7)); break;
      case 8: result = primes[(a + b) & 15]; break;
      case 9: result = __funnelshift_l(a, b, at); break;
      case 10: result = static_cast<uint32_t>(static_cast<int32_t>(a) >> (b & 31)); break;
      default: result = __umulhi(a, b); break;
    }
    stack[top & 7] = result;
    top += code[at] & 3;
  }
  out[i] = stack[0] ^ stack[1] ^ stack[2] ^ stack[3] ^ stack[4] ^ stack[5] ^ stack[6] ^ stack[7];
}

__device__ __noinline__ unsigned collatz(uint64_t value) {
  unsigned steps = 0;
  for (; value != 1; ++steps) value = value % 2 == 0 ? value / 2 : 3 * value + 1;
  return steps;
}

__device__ __noinline__ unsigned digits(uint64_t value) {
  unsigned sum = 0;
  for (; value != 0; value /= 10) sum += static_cast<unsigned>(value % 10);
  return sum;
}

__device__ __noinline__ unsigned both(uint64_t value) { return collatz(value) + digits(value); }

using OfNumber = unsigned (*)(uint64_t);
__device__ OfNumber const table[3] = {collatz, digits, both};

// A direct call and one through a pointer that differs within the warp.
extern "C" __global__ void calls(uint32_t* out, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = both(i + 1) * 1000 + table[i % 3](i + 7);
}

// Results that are exact or correctly rounded, so that the host's must be equal bit for bit.
extern "C" __global__ void exact(const float* x, const float* y, float* out, double* wide, int64_t* whole, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float a = x[i], b = y[i];
  float* to = out + i * 10;
  to[0] = __fadd_rn(a, b);
  to[1] = __fmul_rn(a, b);
  to[2] = fmaf(a, b, 1.0f);
  to[3] = __fdiv_rn(a, b);
  to[4] = __fsqrt_rn(fabsf(a));
  to[5] = fminf(a, b);
  to[6] = __half2float(__float2half_rn(a));
  to[7] = __bfloat162float(__float2bfloat16_rn(a));
  to[8] = rintf(a);
  to[9] = truncf(b);
  wide[i * 3] = static_cast<double>(a) / static_cast<double>(b);
  wide[i * 3 + 1] = fma(static_cast<double>(a), static_cast<double>(b), -1.0);
  wide[i * 3 + 2] = sqrt(fabs(static_cast<double>(a)));
  whole[i * 3] = __float2ll_rn(a);
  whole[i * 3 + 1] = __float2int_rz(b);
  whole[i * 3 + 2] = static_cast<int64_t>(__double2ll_rd(static_cast<double>(a) * 1000.0));
}

// Functions of CUDA's maths library, whose error bounds are published.
extern "C" __global__ void functions(const float* x, float* out, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float a = x[i];
  float* to = out + i * 6;
  to[0] = expf(a);
  to[1] = logf(fabsf(a));
  to[2] = sinf(a);
  to[3] = tanhf(a);
  to[4] = rsqrtf(fabsf(a));
  to[5] = powf(fabsf(a), 1.5f);
}

// Pairs of halves; sums of small whole numbers are exact.
extern "C" __global__ void halves(const __half2* x, const __nv_bfloat162* y, float* out, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const __half2 a = __hfma2(x[i], __float2half2_rn(2.0f), __float2half2_rn(1.0f));
  const float2 wide = __half22float2(a);
#if __CUDA_ARCH__ >= 800
  const __nv_bfloat162 b = __hfma2(y[i], __float2bfloat162_rn(2.0f), __float2bfloat162_rn(1.0f));
  const float2 other = __bfloat1622float2(b);
#else
  const float2 given = __bfloat1622float2(y[i]);
  const float2 other = {given.x * 2 + 1, given.y * 2 + 1};
#endif
  out[i] = wide.x + wide.y * 4 + other.x * 16 + other.y * 64;
}

// Lanes of a warp count how many of them hold the same key.
extern "C" __global__ void match(const uint32_t* keys, uint32_t* out, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t key = i < count ? keys[i] : 0xffffffffu;
  const unsigned same = __match_any_sync(0xffffffffu, key);
  int all;
  __match_all_sync(0xffffffffu, key, &all);
  if (i < count) out[i] = __popc(same) * 2 + (all != 0 ? 1 : 0);
}

// Division of 128 bits, which the compiler makes of additions and subtractions with carry; warpSize; roundings of fp16.
extern "C" __global__ void wide_division(const uint64_t* x, uint64_t* out, uint16_t* halves, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const unsigned __int128 a = static_cast<unsigned __int128>(x[2 * i]) << 64 | x[2 * i + 1];
  const unsigned __int128 b = static_cast<unsigned __int128>(x[2 * i + 1] >> (x[2 * i] & 63)) * x[2 * i] / warpSize + 1;
  const unsigned __int128 quotient = a / b, remainder = a % b;
  out[4 * i] = static_cast<uint64_t>(quotient >> 64);
  out[4 * i + 1] = static_cast<uint64_t>(quotient);
  out[4 * i + 2] = static_cast<uint64_t>(remainder >> 64);
  out[4 * i + 3] = static_cast<uint64_t>(remainder);
  const float third = static_cast<float>(static_cast<int>(x[2 * i] % 100000) - 50000) / 3;
  halves[2 * i] = __half_as_ushort(__float2half_rd(third));
  halves[2 * i + 1] = __half_as_ushort(__float2half_ru(third));
}
