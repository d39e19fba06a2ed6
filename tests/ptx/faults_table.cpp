#include "tests/ptx/faults.h"

namespace sluice::ptx {

std::span<const FaultCase> faults() {
  static const std::vector<FaultCase> table = {
      {"uninitialised_shared_memory",
       1,
       32,
       FindingKind::kUninitialised,
       {12},
       R"(
.loc 1 11 1
@%rest st.shared.u32 [%slot4], 1;
.loc 1 12 1
ld.shared.u32 %v0, [%slot4];
ret;
)",
       "@%rest st",
       "st"},
      {"uninitialised_global_memory",
       1,
       32,
       FindingKind::kUninitialised,
       {11},
       R"(
mov.u64 %w0, raw;
cvta.global.u64 %w0, %w0;
mad.wide.u32 %w0, %lane, 4, %w0;
.loc 1 11 1
ld.global.u32 %v0, [%poisoned4];
ret;
)",
       "[%poisoned4]",
       "[%w0]"},
      {"uninitialised_counter",
       1,
       32,
       FindingKind::kUninitialised,
       {11},
       R"(
.loc 1 11 1
atom.global.add.u32 %v0, [%poisoned4], 1;
ret;
)",
       "atom.global.add.u32",
       "atom.global.exch.b32"},
      {"uninitialised_source_of_a_copy",
       1,
       32,
       FindingKind::kUninitialised,
       {11},
       R"(
.loc 1 11 1
cp.async.ca.shared.global [%slot16], [%poisoned4], 4;
.loc 1 12 1
cp.async.wait_all;
ret;
)",
       "%poisoned4",
       "%buffer4"},
      {"out_of_bounds",
       1,
       32,
       FindingKind::kOutOfBounds,
       {11},
       R"(
.loc 1 10 1
st.global.u32 [%buffer4+8064], 1;
.loc 1 11 1
st.global.u32 [%buffer4+8068], 1;
ret;
)",
       "+8068",
       "+7932"},
      {"out_of_bounds_shared",
       1,
       32,
       FindingKind::kOutOfBounds,
       {11},
       R"(
.loc 1 11 1
st.shared.u32 [%slot4+8192], %v0;
ret;
)",
       "+8192",
       "+896"},
      {"misaligned",
       1,
       32,
       FindingKind::kMisaligned,
       {11},
       R"(
.loc 1 11 1
ld.global.u64 %w0, [%buffer4+4];
ret;
)",
       "ld.global.u64 %w0",
       "ld.global.u32 %v0"},
      {"non_coherent_load_of_written_memory",
       1,
       64,
       FindingKind::kNonCoherentRead,
       {11, 13},
       R"(
.loc 1 11 1
st.global.u32 [%buffer4], 1;
.loc 1 12 1
bar.sync 0;
.loc 1 13 1
ld.global.nc.u32 %v0, [%buffer4];
ret;
)",
       "ld.global.nc",
       "ld.global"},
      {"memory_written_after_non_coherent_load",
       1,
       32,
       FindingKind::kNonCoherentRead,
       {11},
       R"(
.loc 1 11 1
ld.global.nc.u32 %v0, [%buffer4];
.loc 1 12 1
@%rest ld.global.u32 %v0, [%buffer4+4];
bar.sync 0;
.loc 1 13 1
st.global.u32 [%buffer4], 1;
ret;
)",
       "ld.global.nc",
       "ld.global"},
      {"missing_copy_wait",
       1,
       32,
       FindingKind::kRace,
       {13},
       R"(
.loc 1 11 1
cp.async.cg.shared.global [%slot16], [%buffer16], 16;
cp.async.commit_group;
.loc 1 12 1
cp.async.wait_group 1;
.loc 1 13 1
ld.shared.u32 %v0, [%slot16];
.loc 1 14 1
cp.async.wait_group 0;
ret;
)",
       "wait_group 1",
       "wait_group 0"},
      {"missing_block_barrier",
       1,
       64,
       FindingKind::kRace,
       {11, 13},
       R"(
.loc 1 11 1
st.global.u32 [%buffer4], 1;
.loc 1 12 1
bar.sync %number, 32;
.loc 1 13 1
ld.global.u32 %v0, [%mirror4];
ret;
)",
       "bar.sync %number, 32",
       "bar.sync 0"},
      {"missing_slot_empty_wait",
       1,
       64,
       FindingKind::kDeadlock,
       {24},
       // A ring of one slot: barrier 1 says that it is full, barrier 2 that it is empty. A producer that doesn't wait arrives at
       // barrier 1 for two of its slots at once, and the consumer waits for ever for the last.
       R"(
mov.u32 %v1, 0;
setp.ne.u32 %p, %number, 0;
@%p bra CONSUME;
PRODUCE:
.loc 1 11 1
// bar.sync 2, 64;
.loc 1 12 1
st.shared.u32 [%slot4], %v1;
.loc 1 13 1
bar.arrive 1, 64;
add.u32 %v1, %v1, 1;
setp.lt.u32 %p, %v1, 4;
@%p bra PRODUCE;
ret;
CONSUME:
.loc 1 23 1
bar.arrive 2, 64;
.loc 1 24 1
bar.sync 1, 64;
.loc 1 25 1
ld.shared.u32 %v0, [%slot4];
add.u32 %v1, %v1, 1;
setp.lt.u32 %p, %v1, 4;
@%p bra CONSUME;
ret;
)",
       "// bar.sync 2",
       "bar.sync 2"},
      {"plain_load_of_another_blocks_data",
       2,
       32,
       FindingKind::kRace,
       {12, 22},
       R"(
setp.ne.u32 %p, %block, 0;
@%p bra READ;
.loc 1 11 1
st.global.u32 [%buffer4], 1;
.loc 1 12 1
st.global.u32 [%buffer4+512], 1;
ret;
READ:
.loc 1 22 1
ld.global.u32 %v0, [%buffer4+512];
ret;
)",
       "ld.global.u32 %v0, [%buffer4+512]",
       "ld.global.u32 %v0, [%buffer4+1024]"},
      {"relaxed_for_release",
       2,
       32,
       FindingKind::kRace,
       {22},
       R"(
setp.ne.u32 %p, %block, 0;
@%p bra READ;
@%rest ret;
.loc 1 11 1
st.global.u32 [%buffer], 1;
.loc 1 12 1
st.relaxed.gpu.global.u32 [%buffer+512], 1;
ret;
READ:
@%rest ret;
POLL:
.loc 1 21 1
ld.acquire.gpu.global.u32 %v0, [%buffer+512];
setp.eq.u32 %p, %v0, 0;
@%p bra POLL;
.loc 1 22 1
ld.global.u32 %v0, [%buffer];
ret;
)",
       "st.relaxed.gpu",
       "st.release.gpu"},
      {"scope_too_narrow",
       2,
       32,
       FindingKind::kRace,
       {22},
       R"(
setp.ne.u32 %p, %block, 0;
@%p bra READ;
@%rest ret;
.loc 1 11 1
st.global.u32 [%buffer], 1;
.loc 1 12 1
fence.acq_rel.cta;
st.relaxed.gpu.global.u32 [%buffer+512], 1;
ret;
READ:
@%rest ret;
POLL:
.loc 1 21 1
ld.acquire.gpu.global.u32 %v0, [%buffer+512];
setp.eq.u32 %p, %v0, 0;
@%p bra POLL;
.loc 1 22 1
ld.global.u32 %v0, [%buffer];
ret;
)",
       "fence.acq_rel.cta",
       "fence.acq_rel.gpu"},
      {"barrier_by_part_of_a_warp",
       1,
       64,
       FindingKind::kPartialBarrier,
       {12, 22},
       R"(
setp.lt.u32 %p, %lane, 16;
.loc 1 11 1
@%p bra OTHER;
.loc 1 12 1
bar.sync 0;
ret;
OTHER:
.loc 1 22 1
bar.sync 1;
ret;
)",
       "%lane, 16",
       "%lane, 0"},
      {"shuffle_from_absent_lane",
       1,
       32,
       FindingKind::kAbsentLane,
       {12},
       R"(
setp.lt.u32 %p, %lane, 16;
.loc 1 11 1
@%p bra OTHER;
.loc 1 12 1
shfl.sync.bfly.b32 %v0, %v0, 16, 31, 0xffff0000;
ret;
OTHER:
ret;
)",
       "%v0, 16, 31",
       "%v0, 8, 31"},
      {"exit_with_copies_in_flight",
       1,
       32,
       FindingKind::kCopyInFlight,
       {11, 12},
       R"(
.loc 1 11 1
cp.async.cg.shared.global [%slot16], [%buffer16], 16;
.loc 1 12 1
ret;
)",
       "ret;",
       "cp.async.wait_all; ret;"},
      {"deadlock",
       1,
       64,
       FindingKind::kDeadlock,
       {12, 22},
       R"(
setp.ne.u32 %p, %number, 0;
@%p bra OTHER;
.loc 1 12 1
bar.sync 1, 64;
ret;
OTHER:
.loc 1 22 1
bar.sync 2, 64;
ret;
)",
       "bar.sync 2",
       "bar.sync 1"},
      {"livelock",
       1,
       32,
       FindingKind::kLivelock,
       {12, 13},
       R"(
@%rest ret;
POLL:
.loc 1 12 1
ld.acquire.gpu.global.u32 %v0, [%buffer];
.loc 1 13 1
setp.eq.u32 %p, %v0, 0;
@%p bra POLL;
ret;
)",
       "setp.eq",
       "setp.ne"},
  };
  return table;
}

}  // namespace sluice::ptx
