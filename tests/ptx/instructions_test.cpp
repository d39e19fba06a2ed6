// Single instructions against values that follow from the PTX ISA's text.
#include <cstdint>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ptx/machine.h"

namespace sluice::ptx {
namespace {

// The instructions read %r1, %r2, %r3 and write %r0.
struct Example {
  const char* body;
  std::uint32_t a, b, c, expected;
  friend void PrintTo(const Example& one, std::ostream* out) { *out << one.body; }
};

std::string module_with(const std::string& body, const std::string& target = "sm_80") {
  return ".version 8.0\n.target " + target +
         "\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n"
         ".reg .b32 %r<8>;\n.reg .b16 %h<4>;\n.reg .b64 %d<8>;\n.reg .pred %p<4>;\n"
         "ld.param.u64 %d0, [p];\nld.global.v2.u32 {%r1, %r2}, [%d0];\nld.global.u32 %r3, [%d0+8];\n" +
         body + "\nst.global.u32 [%d0+12], %r0;\nret;\n}\n";
}

std::uint32_t run(const Example& one) {
  const Gpu& gpu = gpu_named("rtx3090");
  Memory memory(std::uint64_t{1} << 20U);
  const LoadedModule module(parse(module_with(one.body), "one.ptx"), memory, gpu);
  const std::uint64_t buffer = memory.allocate(16);
  const std::uint32_t words[] = {one.a, one.b, one.c, 0};
  std::memcpy(memory.bytes(buffer, 16).data(), words, sizeof(words));
  std::vector<std::byte> parameters(8);
  std::memcpy(parameters.data(), &buffer, 8);
  LaunchOptions options;
  options.block = {1, 1, 1};
  options.checks = false;
  const LaunchResult result = launch(module.kernels()[0], memory, gpu, parameters, options);
  EXPECT_TRUE(result.completed) << (result.findings.empty() ? "" : result.findings[0].message);
  std::uint32_t got = 0;
  std::memcpy(&got, memory.bytes(buffer + 12, 4).data(), 4);
  return got;
}

class PtxInstruction : public testing::TestWithParam<Example> {};

TEST_P(PtxInstruction, GivesWhatTheIsaSays) {
  EXPECT_EQ(run(GetParam()), GetParam().expected);
}

constexpr std::uint32_t kOne = 0x3f800000;  // 1.0f
constexpr std::uint32_t kNan = 0x7fffffff;  // the NaN of single precision
constexpr std::uint32_t kMinusZero = 0x80000000;

INSTANTIATE_TEST_SUITE_P(
    Smoke, PtxInstruction,
    testing::Values(
        Example{"add.s32 %r0, %r1, %r2;", 0x7fffffff, 1, 0, 0x80000000},
        Example{"add.sat.s32 %r0, %r1, %r2;", 0x7fffffff, 1, 0, 0x7fffffff},
        Example{"mul.hi.u32 %r0, %r1, %r2;", 0x80000000, 6, 0, 3},
        Example{"shl.b32 %r0, %r1, %r2;", 1, 32, 0, 0},                    // a shift by the width or more
        Example{"shr.s32 %r0, %r1, %r2;", 0x80000000, 99, 0, 0xffffffff},  // fills with the sign
        Example{"bfe.s32 %r0, %r1, %r2, %r3;", 0x00000800, 8, 4,
                0xfffffff8},  // the field's top bit is its sign
        Example{"bfi.b32 %r0, %r1, %r2, %r3, 8;", 0xab, 0xffffffff, 4, 0xfffffabf},
        Example{"bfind.shiftamt.u32 %r0, %r1;", 1, 0, 0, 31},
        Example{"prmt.b32 %r0, %r1, %r2, %r3;", 0x33221180, 0x77665544, 0x7c08, 0x770080ff},
        Example{"lop3.b32 %r0, %r1, %r2, %r3, 0x96;", 0xf0f0f0f0, 0xcccccccc, 0xaaaaaaaa, 0x96969696},
        Example{"shf.l.wrap.b32 %r0, %r1, %r2, %r3;", 0x80000000, 1, 33, 3},
        Example{"bmsk.clamp.b32 %r0, %r1, %r2;", 4, 8, 0, 0xff0},
        Example{"szext.clamp.s32 %r0, %r1, %r2;", 0x8, 4, 0, 0xfffffff8},
        Example{"mul.f32 %r0, %r1, %r2;", 0x7f800000, 0, 0, kNan},  // infinity by zero
        Example{"add.rz.f32 %r0, %r1, %r2;", kOne, 0x33ffffff, 0, kOne},
        Example{"add.rp.f32 %r0, %r1, %r2;", kOne, 0x00000001, 0, kOne + 1},
        Example{"min.f32 %r0, %r1, %r2;", 0, kMinusZero, 0, kMinusZero},
        Example{"max.NaN.f32 %r0, %r1, %r2;", kNan, kOne, 0, kNan},
        Example{"add.ftz.f32 %r0, %r1, %r2;", 0x00000001, 0x80000001, 0, 0},
        Example{"cvt.rni.s32.f32 %r0, %r1;", 0x40200000, 0, 0, 2},  // 2.5: to even
        Example{"cvt.rzi.u32.f32 %r0, %r1;", 0xbf800000, 0, 0, 0},  // -1: clamps
        Example{"cvt.rzi.s32.f32 %r0, %r1;", kNan, 0, 0, 0},
        Example{"cvt.rn.f16x2.f32 %r0, %r1, %r2;", kOne, 0xc0000000, 0, 0x3c00c000},
        Example{"cvt.rn.bf16x2.f32 %r0, %r1, %r2;", 0x3f808000, 0x3f818000, 0, 0x3f803f82},  // ties to even
        Example{"fma.rn.f16x2 %r0, %r1, %r2, %r3;", 0x3c003c01, 0x40003c01, 0x00018000, 0x40003c02},
        Example{"setp.ltu.f32 %p1, %r1, %r2;\nselp.b32 %r0, 1, 0, %p1;", kNan, kOne, 0, 1},
        Example{"add.cc.u32 %r4, %r1, %r2;\naddc.u32 %r0, %r3, 0;", 0xffffffff, 1, 6, 7}));

std::string refusal(const std::string& text) {
  Memory memory(std::uint64_t{1} << 20U);
  try {
    const LoadedModule module(parse(text, "one.ptx"), memory, gpu_named("rtx3090"));
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(PtxInstruction, IsRefusedWithItsLineIfItIsUnknown) {
  for (const char* body :
       {"frobnicate.b32 %r0, %r1;", "add.rz.s32 %r0, %r1, %r2;", "shl.b32 %r0, %r1;",
        "add.s32 %r0, %r1, %h1;", "cvt.s32.f32 %r0, %r1;", "bra nowhere;", "cvt.sat.s32.s16 %r0, %h1;",
        "ld.volatile.param.u64 %d1, [p];", "ld.global.nc.cv.u32 %r0, [%d0];", "add.u32 %r0, %r1, %tid.x;",
        "add.s32 _, %r1, %r2;", "setp.eq.f16 %p1|%p2, %h1, %h2;", "cvt.f32.bf16 %r0, %r1;",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r0, [%r1];"})
    EXPECT_THAT(refusal(module_with(body)), testing::HasSubstr("one.ptx:13")) << body;
}

TEST(PtxInstruction, IsRefusedWithItsLineIfTheTargetLacksIt) {
  for (const char* body :
       {"fma.rn.bf16x2 %r0, %r1, %r2, %r3;", "cvt.rn.bf16.f32 %h0, %r1;", "cvt.rn.f16x2.f32 %r0, %r1, %r2;",
        "fma.rn.relu.f16 %h0, %h1, %h2, %h3;", "max.NaN.f32 %r0, %r1, %r2;", "min.f16 %h0, %h1, %h2;",
        "redux.sync.add.s32 %r0, %r1, 0xffffffff;", "cp.async.wait_all;",
        "cp.async.ca.shared.global [%r1], [%d0], 4;", "ld.global.L2::256B.u32 %r0, [%d0];",
        "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%r4, %r5}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, "
        "{%r2, %r3};"}) {
    EXPECT_EQ(refusal(module_with(body)), "");
    const std::string refused = refusal(module_with(body, "sm_75"));
    EXPECT_THAT(refused, testing::HasSubstr("one.ptx:13")) << body;
    EXPECT_THAT(refused, testing::HasSubstr("sm_80 is the first target")) << body;
  }
}

}  // namespace
}  // namespace sluice::ptx
