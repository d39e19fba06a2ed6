// Single instructions against values that follow from the PTX ISA's text.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ptx/machine.h"
#include "tests/support/seed.h"

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

std::uint32_t run(const Example& one, LaunchOptions options = {}) {
  const Gpu& gpu = gpu_named("rtx3090");
  Memory memory(std::uint64_t{1} << 20U);
  const LoadedModule module(parse(module_with(one.body), "one.ptx"), memory, gpu);
  const std::uint64_t buffer = memory.allocate(16);
  const std::uint32_t words[] = {one.a, one.b, one.c, 0};
  std::memcpy(memory.bytes(buffer, 16).data(), words, sizeof(words));
  std::vector<std::byte> parameters(8);
  std::memcpy(parameters.data(), &buffer, 8);
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
        Example{
            "setp.eq.u32 %p1, %r1, %r1;\nsetp.ne.and.u32 %p1|%p2, %r1, %r2, %p1;\nselp.b32 %r0, 1, 0, %p2;",
            5, 5, 0, 1},  // both results are of the predicate as it was
        Example{"setp.eq.u32 %p1, %r1, %r1;\n@%p1 setp.ne.u32 %p1|%p2, %r1, %r2;\nselp.b32 %r0, 1, 0, %p2;",
                5, 5, 0, 1},  // and so is the guard, whichever it is
        Example{"setp.ne.u32 %p1, %r1, %r1;\nsetp.eq.u32 %p2, %r1, %r1;\n"
                "@%p2 setp.eq.u32 %p1|%p2, %r1, %r2;\nselp.b32 %r0, 1, 0, %p1;",
                5, 5, 0, 1},
        Example{
            "setp.eq.u32 %p1, %r1, %r1;\nsetp.ne.and.f16x2 %p1|%p2, %r1, %r2, %p1;\nselp.b32 %r0, 1, 0, %p2;",
            0x3c000000, 0x40000000, 0, 1},
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
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r0, [%r1];", "mov.b32 %r0, {%r1};",
        "selp.b32 %r0, 1, 0, 0f3F800000;", ".local .b8 huge[4294967296][4294967296];"})
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

// What PTX only bounds.
struct Bounded {
  const char* opcode;
  double (*function)(double);
  double relative, absolute;  // the larger of both, or with `places` so many units of the last place
  int places;
  float least, most;  // operands
};

const std::vector<Bounded>& bounded() {
  static const std::vector<Bounded> all = {
      {"ex2.approx.f32", [](double x) { return std::exp2(x); }, 0, 0, 2, -100, 100},
      {"lg2.approx.f32", [](double x) { return std::log2(x); }, 0x1p-22, 0x1p-22, 0, 0x1p-100F, 0x1p100F},
      {"sin.approx.f32", [](double x) { return std::sin(x); }, 0, std::exp2(-20.5), 0, -6.2F, 6.2F},
      {"cos.approx.f32", [](double x) { return std::cos(x); }, 0, std::exp2(-20.5), 0, -6.2F, 6.2F},
      {"tanh.approx.f32", [](double x) { return std::tanh(x); }, 0x1p-11, 0, 0, -9, 9},
      {"rsqrt.approx.f32", [](double x) { return 1 / std::sqrt(x); }, std::exp2(-22.9), 0, 0, 0x1p-90F, 1e9F},
      {"sqrt.approx.f32", [](double x) { return std::sqrt(x); }, 0x1p-23, 0, 0, 0x1p-90F, 1e9F},
      {"rcp.approx.f32", [](double x) { return 1 / x; }, 0, 0, 1, 0x1p-90F, 1e9F},
      {"div.full.f32 %r0, 0f40400000, %r1; //", [](double x) { return 3 / x; }, 0, 0, 2, 0x1p-90F, 1e9F},
      {"div.approx.f32 %r0, %r1, 0f40400000; //", [](double x) { return x / 3; }, 0, 0, 2, 0x1p-90F, 1e9F}};
  return all;
}

// A number of its own: what varies by another seed doesn't by this one.
std::uint64_t next_launch() {
  static std::uint64_t number = 0;
  return ++number;
}

double bound_of(const Bounded& it, double exact) {
  if (it.places > 0) return it.places * std::ldexp(1.0, std::ilogb(exact) - 23);
  return std::max(it.relative * std::abs(exact), it.absolute);
}

float result_of(const Bounded& it, float operand, bool varies, std::uint64_t seed) {
  const std::string body = std::string(it.opcode) + " %r0, %r1;";
  LaunchOptions options;
  options.seed = next_launch();
  if (varies) options.vary_inexact = seed;
  return std::bit_cast<float>(run({body.c_str(), std::bit_cast<std::uint32_t>(operand), 0, 0, 0}, options));
}

TEST(PtxInexact, FunctionsVaryBySeedWithinTheirBounds) {
  std::mt19937_64 random(sluice::test::seed_of_test());
  for (const Bounded& it : bounded()) {
    std::uniform_real_distribution<float> operands(it.least, it.most);
    int moved = 0;
    for (int i = 0; i < 40; ++i) {
      const float operand = operands(random);
      const double exact = it.function(static_cast<double>(operand));
      const float fixed = result_of(it, operand, false, 1);
      EXPECT_EQ(fixed, static_cast<float>(exact)) << it.opcode << " of " << operand;
      EXPECT_EQ(fixed, result_of(it, operand, false, 2));
      for (const std::uint64_t seed : {1U, 2U}) {
        const float varied = result_of(it, operand, true, seed);
        EXPECT_LE(std::abs(static_cast<double>(varied) - exact), bound_of(it, exact))
            << it.opcode << " of " << operand;
        EXPECT_EQ(varied, result_of(it, operand, true, seed));
        moved += varied != fixed ? 1 : 0;
      }
    }
    EXPECT_GT(moved, 0) << it.opcode;  // of 80; about 15 are expected to
  }
}

TEST(PtxInexact, WhatTheIsaGivesExactlyStays) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    EXPECT_EQ(result_of(bounded()[0], 0, true, seed), 1.0F);
    EXPECT_EQ(result_of(bounded()[0], -kInfinity, true, seed), 0.0F);
    EXPECT_EQ(result_of(bounded()[1], 0, true, seed), -kInfinity);
    EXPECT_EQ(result_of(bounded()[3], 0, true, seed), 1.0F);
    for (const float subnormal : {1e-40F, -1e-45F, 1.1e-38F}) {
      EXPECT_EQ(result_of(bounded()[0], subnormal, true, seed), 1.0F);
      EXPECT_EQ(result_of(bounded()[3], subnormal, true, seed), 1.0F);
    }
    EXPECT_EQ(result_of(bounded()[5], kInfinity, true, seed), 0.0F);
    EXPECT_TRUE(std::isnan(result_of(bounded()[5], -1, true, seed)));
  }
}

// Factors are below 2, so the magnitudes of a sum's 16 products and its c, 1, add up to 65 at most.
std::vector<float> product_of(std::uint64_t seed, bool varies, std::span<const std::uint16_t> factors) {
  const std::string text =
      ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n"
      ".reg .b32 %r<16>;\n.reg .b64 %d<4>;\nld.param.u64 %d0, [p];\nmov.u32 %r0, %tid.x;\n"
      "mul.wide.u32 %d1, %r0, 48;\nadd.u64 %d0, %d0, %d1;\n"
      "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d0];\nld.global.v2.u32 {%r5, %r6}, [%d0+16];\n"
      "mov.b32 %r7, 0f3f800000;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r8, %r9, %r10, %r11}, {%r1, %r2, %r3, %r4}, "
      "{%r5, %r6}, {%r7, %r7, %r7, %r7};\n"
      "st.global.v4.u32 [%d0+32], {%r8, %r9, %r10, %r11};\nret;\n}\n";
  const Gpu& gpu = gpu_named("rtx3090");
  Memory memory(std::uint64_t{1} << 20U);
  const LoadedModule module(parse(text, "mma.ptx"), memory, gpu);
  constexpr std::size_t kThread = 48;  // bytes: A, B, two words of nothing, D
  const std::uint64_t buffer = memory.allocate(32 * kThread);
  std::byte* const at = memory.bytes(buffer, 32 * kThread).data();
  for (std::size_t thread = 0; thread < 32; ++thread)
    std::memcpy(at + thread * kThread, factors.data() + thread * 12, 24);
  std::vector<std::byte> parameters(sizeof buffer);
  std::memcpy(parameters.data(), &buffer, sizeof buffer);
  LaunchOptions options;
  options.block = {32, 1, 1};
  options.seed = next_launch();
  if (varies) options.vary_inexact = seed;
  const LaunchResult result = launch(module.kernels()[0], memory, gpu, parameters, options);
  EXPECT_TRUE(result.completed && result.findings.empty());
  std::vector<float> product(std::size_t{32} * 4);
  for (std::size_t thread = 0; thread < 32; ++thread)
    std::memcpy(product.data() + thread * 4, at + thread * kThread + 32, 16);
  return product;
}

TEST(PtxInexact, SumsOfMmaVaryBySeedWithinTheirBound) {
  std::mt19937_64 random(sluice::test::seed_of_test());
  std::vector<std::uint16_t> factors(std::size_t{32} * 12);
  for (std::uint16_t& factor : factors)
    factor = static_cast<std::uint16_t>(0x3c80U + random() % 0x380U);  // from 2^-6
  const std::vector<float> fixed = product_of(1, false, factors);
  EXPECT_EQ(fixed, product_of(2, false, factors));
  // Both are within 16 u / (1 - 16 u) of the exact sum's 65.
  constexpr double kBound = 2 * 16.1 * 0x1p-24 * 65;
  int moved = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const std::vector<float> varied = product_of(seed, true, factors);
    EXPECT_EQ(varied, product_of(seed, true, factors));
    for (std::size_t i = 0; i < fixed.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(varied[i]), static_cast<double>(fixed[i]), kBound);
      moved += varied[i] != fixed[i] ? 1 : 0;
    }
  }
  EXPECT_GT(moved, 0);
}

}  // namespace
}  // namespace sluice::ptx
