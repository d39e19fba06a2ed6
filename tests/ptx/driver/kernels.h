// Kernels as text: the tests of the driver library need no nvcc.
#pragma once

#include <string>

namespace sluice::ptx::test {

// c[i] = a[i] + b[i] for i < n.
inline const std::string kVectorAdd = R"(
.version 8.0
.target sm_75
.address_size 64
.global .align 4 .u32 calls = 41;
.visible .entry vector_add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
  .reg .pred %p<2>; .reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u64 %rd3, [c]; ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra $done;
  mul.wide.u32 %rd4, %r5, 4;
  add.s64 %rd5, %rd1, %rd4; add.s64 %rd6, %rd2, %rd4; add.s64 %rd7, %rd3, %rd4;
  ld.global.f32 %f1, [%rd5]; ld.global.f32 %f2, [%rd6];
  add.f32 %f3, %f1, %f2;
  st.global.f32 [%rd7], %f3;
$done:
  ret;
}
// Says that it is alive in words[0] and waits until words[1] is 1.
.visible .entry wait_for_host(.param .u64 words)
{
  .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [words];
  mov.u32 %r1, 1;
  st.release.sys.u32 [%rd1], %r1;
$again:
  ld.acquire.sys.u32 %r2, [%rd1+4];
  setp.ne.u32 %p1, %r2, 1;
  @%p1 bra $again;
  ret;
}
// out[block] = the sum of the block's thread numbers, through dynamic shared memory.
.extern .shared .align 4 .b8 words_of_threads[];
.visible .entry sum_of_threads(.param .u64 out)
{
  .reg .pred %p<3>; .reg .b32 %r<12>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, words_of_threads;
  shl.b32 %r4, %r1, 2; add.s32 %r5, %r3, %r4;
  st.shared.u32 [%r5], %r1;
  bar.sync 0;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra $done;
  mov.u32 %r6, 0; mov.u32 %r7, 0;
$again:
  shl.b32 %r8, %r6, 2; add.s32 %r8, %r3, %r8;
  ld.shared.u32 %r9, [%r8];
  add.s32 %r7, %r7, %r9; add.s32 %r6, %r6, 1;
  setp.lt.u32 %p2, %r6, %r2;
  @%p2 bra $again;
  mov.u32 %r10, %ctaid.x;
  mul.wide.u32 %rd2, %r10, 4; add.s64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r7;
$done:
  ret;
}
)";

// Each does one thing that is wrong.
inline const std::string kFaults = R"(
.version 8.0
.target sm_75
.address_size 64
.visible .entry out_of_bounds(.param .u64 p)
{
  .reg .b32 %r<2>; .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [p]; mov.u32 %r1, 1; st.global.u32 [%rd1+1048576], %r1; ret;
}
.visible .entry misaligned(.param .u64 p)
{
  .reg .b32 %r<2>; .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [p]; mov.u32 %r1, 1; st.global.u32 [%rd1+2], %r1; ret;
}
.visible .entry race(.param .u64 p)
{
  .reg .b32 %r<2>; .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [p]; mov.u32 %r1, %ctaid.x; st.global.u32 [%rd1], %r1; ret;
}
.visible .entry traps(.param .u64 p)
{
  trap;
}
.visible .entry waits_for_nobody(.param .u64 p)
{
  .reg .pred %p<2>; .reg .b32 %r<2>;
  mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32;
  @%p1 ret;
  bar.sync 1, 64;
  ret;
}
)";

}  // namespace sluice::ptx::test
