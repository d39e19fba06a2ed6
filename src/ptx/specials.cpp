#include "ptx/specials.h"

#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

using Lane = std::uint32_t;
using Value = std::uint64_t;

template <std::size_t kAxis>
Value tid(const Executor& executor, const Warp& warp, Lane lane) {
  Value thread = warp.index * kLanes + lane;
  for (std::size_t i = 0; i < kAxis; ++i) thread /= executor.shape.block[i];
  return kAxis == 2 ? thread : thread % executor.shape.block[kAxis];
}
template <std::size_t kAxis>
Value ntid(const Executor& executor, const Warp& /*warp*/, Lane /*lane*/) {
  return executor.shape.block[kAxis];
}
template <std::size_t kAxis>
Value ctaid(const Executor& /*executor*/, const Warp& warp, Lane /*lane*/) {
  return warp.block->id[kAxis];
}
template <std::size_t kAxis>
Value nctaid(const Executor& executor, const Warp& /*warp*/, Lane /*lane*/) {
  return executor.shape.grid[kAxis];
}

constexpr Value kLow = 0xffffffff;

Value cycles(const Executor& executor) {
  return static_cast<Value>(executor.now());
}
Value nanoseconds(const Executor& executor) {
  return static_cast<Value>(executor.now() * 1e3 / executor.shape.gpu->clock_mhz);
}

}  // namespace

std::span<const Special> specials() {
  using E = const Executor&;
  using W = const Warp&;
  static constexpr Special kTable[] = {
      {"%tid.x", 4, tid<0>},
      {"%tid.y", 4, tid<1>},
      {"%tid.z", 4, tid<2>},
      {"%ntid.x", 4, ntid<0>},
      {"%ntid.y", 4, ntid<1>},
      {"%ntid.z", 4, ntid<2>},
      {"%ctaid.x", 4, ctaid<0>},
      {"%ctaid.y", 4, ctaid<1>},
      {"%ctaid.z", 4, ctaid<2>},
      {"%nctaid.x", 4, nctaid<0>},
      {"%nctaid.y", 4, nctaid<1>},
      {"%nctaid.z", 4, nctaid<2>},
      {"%laneid", 4, [](E, W, Lane lane) -> Value { return lane; }},
      {"%warpid", 4, [](E, W warp, Lane) -> Value { return warp.index; }},
      {"%nwarpid", 4, [](E executor, W, Lane) -> Value { return executor.shape.warps; }},
      {"%smid", 4,
       [](E executor, W warp, Lane) -> Value { return warp.block->slot % executor.shape.gpu->sms; }},
      {"%nsmid", 4, [](E executor, W, Lane) -> Value { return executor.shape.gpu->sms; }},
      {"%gridid", 4, [](E, W, Lane) -> Value { return 1; }},
      {"%clock", 4, [](E executor, W, Lane) -> Value { return cycles(executor) & kLow; }},
      {"%clock_hi", 4, [](E executor, W, Lane) -> Value { return cycles(executor) >> 32U; }},
      {"%clock64", 8, [](E executor, W, Lane) -> Value { return cycles(executor); }},
      {"%globaltimer", 8, [](E executor, W, Lane) -> Value { return nanoseconds(executor); }},
      {"%globaltimer_lo", 4, [](E executor, W, Lane) -> Value { return nanoseconds(executor) & kLow; }},
      {"%globaltimer_hi", 4, [](E executor, W, Lane) -> Value { return nanoseconds(executor) >> 32U; }},
      {"%lanemask_eq", 4, [](E, W, Lane lane) -> Value { return 1U << lane; }},
      {"%lanemask_le", 4, [](E, W, Lane lane) -> Value { return (2ULL << lane) - 1; }},
      {"%lanemask_lt", 4, [](E, W, Lane lane) -> Value { return (1ULL << lane) - 1; }},
      {"%lanemask_ge", 4, [](E, W, Lane lane) -> Value { return kLow << lane & kLow; }},
      {"%lanemask_gt", 4, [](E, W, Lane lane) -> Value { return (kLow - 1) << lane & kLow; }},
      {"%dynamic_smem_size", 4, [](E executor, W, Lane) -> Value { return executor.options.dynamic_shared; }},
      {"%total_smem_size", 4, [](E executor, W, Lane) -> Value { return executor.shape.shared_bytes; }},
      // Where the barrier of a cooperative launch lies: cooperative_groups looks there.
      {"%envreg1", 4, [](E executor, W, Lane) -> Value { return executor.grid_barrier >> 32U; }},
      {"%envreg2", 4, [](E executor, W, Lane) -> Value { return executor.grid_barrier & kLow; }},
      {kDynamicBase, 4,
       [](E executor, W, Lane) -> Value { return (executor.kernel.static_shared + 15ULL) / 16 * 16; }},
  };
  return kTable;
}

namespace run {

bool special(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const Special& entry = specials()[op.variant];
  const Warp& warp = *lanes.of;
  if (entry.name.starts_with("%clock") || entry.name.starts_with("%globaltimer"))
    executor.clock_was_read = true;
  each_lane(mask, [&](std::uint32_t i) {
    const Value value = entry.value(executor, warp, i);
    if (op.width == 8)
      warp.rows.at<std::uint64_t>(op.rows[0])[i] = value;
    else
      warp.rows.at<std::uint32_t>(op.rows[0])[i] = static_cast<std::uint32_t>(value);
  });
  ++lanes.pc;
  return true;
}

}  // namespace run
}  // namespace sluice::ptx
