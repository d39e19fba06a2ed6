// Every fault that the machine looks for, each in a small kernel: reported as what it is, at its line of the source; and the
// same kernel without the fault is clean.
#include "tests/ptx/faults.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "tests/ptx/ptx_run.h"

namespace sluice::ptx {
namespace {

constexpr std::uint64_t kSeeds = 8;

std::string kernel_of(std::string_view body) {
  return R"(.version 8.4
.target sm_80
.address_size 64
.global .align 16 .b8 raw[512];
.visible .entry fault(.param .u64 parameter)
{
.reg .pred %p, %first, %rest;
.reg .b32 %v<4>, %lane, %number, %block;
.reg .b64 %w<2>, %buffer, %buffer4, %buffer16, %mirror4, %poisoned4, %slot4, %slot16;
.shared .align 16 .b8 slots[1024];
.loc 1 1 1
ld.param.u64 %buffer, [parameter];
cvta.to.global.u64 %buffer, %buffer;
mov.u32 %v0, %tid.x;
mov.u32 %block, %ctaid.x;
and.b32 %lane, %v0, 31;
shr.u32 %number, %v0, 5;
setp.eq.u32 %first, %lane, 0;
setp.ne.u32 %rest, %lane, 0;
mad.wide.u32 %buffer4, %v0, 4, %buffer;
mad.wide.u32 %buffer16, %v0, 16, %buffer;
xor.b32 %v1, %v0, 32;
mad.wide.u32 %mirror4, %v1, 4, %buffer;
add.u64 %poisoned4, %buffer4, 4096;
mov.u64 %w0, slots;
mad.wide.u32 %slot4, %lane, 4, %w0;
mad.wide.u32 %slot16, %lane, 16, %w0;
)" + std::string(body) +
         "}\n.file 1 \"fault.cu\"\n";
}

LaunchResult run(const FaultCase& fault, const std::string& body, std::uint64_t seed) {
  return PtxRun{.text = kernel_of(body),
                .blocks = fault.blocks,
                .threads = fault.threads,
                .bytes = 8192,
                .zeros = 4096}(seed);
}

class FaultTest : public testing::TestWithParam<FaultCase> {};

TEST_P(FaultTest, IsReportedAtItsLine) {
  const FaultCase& fault = GetParam();
  std::uint64_t found = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const LaunchResult result = run(fault, std::string(fault.text), seed);
    for (const Finding& finding : result.findings) {
      if (finding.kind != fault.kind) continue;
      ++found;
      EXPECT_EQ(finding.file, "fault.cu");
      EXPECT_TRUE(std::ranges::find(fault.lines, finding.line) != fault.lines.end()) << finding.message;
      EXPECT_NE(finding.message.find("fault.cu:" + std::to_string(finding.line)), std::string::npos)
          << finding.message;
    }
  }
  EXPECT_GT(found, 0U) << fault.name << text_of(run(fault, std::string(fault.text), 0));
}

TEST_P(FaultTest, IsGoneWhenMended) {
  const FaultCase& fault = GetParam();
  std::string text(fault.text);
  const std::size_t at = text.find(fault.mended_from);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, fault.mended_from.size(), fault.mended_to);
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const LaunchResult result = run(fault, text, seed);
    EXPECT_TRUE(result.findings.empty()) << "seed " << seed << text_of(result);
    EXPECT_TRUE(result.completed);
  }
}

// A function that was inlined: its own line, and those of the calls.
TEST(Faults, NameTheCallsOfInlinedFunctions) {
  const std::string text = kernel_of(R"(
.loc 1 30 5
.loc 1 20 3, function_name L0, inlined_at 1 30 5
.loc 2 11 7, function_name L0+4, inlined_at 1 20 3
st.global.u32 [%buffer4+8192], 1;
.loc 1 31 5
ret;
)") + ".file 2 \"header.h\"\n";
  const LaunchResult result = PtxRun{.text = text, .bytes = 8192}(0);
  ASSERT_EQ(result.findings.size(), 1U) << text_of(result);
  const Finding& finding = result.findings[0];
  EXPECT_EQ(finding.file, "header.h");
  EXPECT_EQ(finding.line, 11U);
  const char* place = "header.h:11, inlined at fault.cu:20, inlined at fault.cu:30 (PTX line ";
  EXPECT_NE(finding.message.find(place), std::string::npos) << finding.message;
}

// PTX ISA, "bar, barrier": a thread waits for the non-exited threads of its warp, and the warp's arrival counts.
TEST(Barriers, ExitedLanesOfAWarpThatComesCountAsHere) {
  const PtxRun run{.text = kernel_of(R"(
setp.ge.u32 %p, %v0, 48;
@%p ret;
barrier.sync 1, 64;
setp.ge.u32 %p, %v0, 40;
@%p ret;
barrier.arrive 2, 64;
barrier.sync 3, 64;
ret;
)"),
                   .threads = 64};
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const LaunchResult result = run(seed);
    EXPECT_TRUE(result.completed && result.findings.empty()) << "seed " << seed << text_of(result);
  }
}

// A warp that has arrived and exits comes once, and one that exits without having come doesn't.
TEST(Barriers, AWarpThatExitsComesOnceAtMost) {
  const PtxRun run{.text = kernel_of(R"(
setp.eq.u32 %p, %number, 2;
@%p ret;
setp.eq.u32 %p, %number, 0;
@%p bra ARRIVE;
.loc 1 12 1
barrier.sync 1, 96;
ret;
ARRIVE:
barrier.arrive 1, 96;
ret;
)") + "\n",
                   .threads = 96};
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const LaunchResult result = run(seed);
    ASSERT_TRUE(has(result, FindingKind::kDeadlock)) << "seed " << seed << text_of(result);
    EXPECT_EQ(result.findings[0].line, 12U);
  }
}

// Some 65,000 steps of a warp are looked through for one that comes again, after 131,072 instructions without a change.
TEST(Livelock, AWarpMayEndWhileItIsLookedFor) {
  for (const std::uint32_t rounds : {44000U, 50000U, 60000U, 65000U}) {
    const PtxRun run{
        .text = kernel_of("mov.u32 %v1, 0;\nAGAIN:\nadd.u32 %v1, %v1, 1;\nsetp.lt.u32 %p, %v1, " +
                          std::to_string(rounds) + ";\n@%p bra AGAIN;\nret;\n"),
        .max_warp_instructions = 1000000};
    const LaunchResult result = run(0);
    EXPECT_TRUE(result.completed && result.findings.empty()) << rounds << text_of(result);
    EXPECT_GE(result.report.counters.warp_instructions, 3 * rounds);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FaultTest, testing::ValuesIn(faults().begin(), faults().end()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice::ptx
