#include "ptx/specials.h"

#include <algorithm>
#include <iterator>

#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

using Value = std::uint64_t;

struct Reader {
  const Executor& executor;
  const Warp& warp;
  std::uint32_t lane;
  std::size_t axis;

  const LaunchShape& shape() const { return executor.shape; }
  Value cycles() const { return static_cast<Value>(executor.now()); }
  Value nanoseconds() const { return static_cast<Value>(executor.now() * 1e3 / shape().gpu->clock_mhz); }
};

Value tid(const Reader& by) {
  Value thread = by.warp.index * kLanes + by.lane;
  for (std::size_t i = 0; i < by.axis; ++i) thread /= by.shape().block[i];
  return by.axis == 2 ? thread : thread % by.shape().block[by.axis];
}

constexpr Value kLow = 0xffffffff;

struct Entry {
  std::string_view name;
  std::uint32_t bytes;
  Value (*value)(const Reader& by);
  bool has_axes = false;  // .x, .y and .z
};
using R = const Reader&;
constexpr Entry kTable[] = {
    {"%tid", 4, tid, true},
    {"%ntid", 4, [](R by) -> Value { return by.shape().block[by.axis]; }, true},
    {"%ctaid", 4, [](R by) -> Value { return by.warp.block->id[by.axis]; }, true},
    {"%nctaid", 4, [](R by) -> Value { return by.shape().grid[by.axis]; }, true},
    {"%laneid", 4, [](R by) -> Value { return by.lane; }},
    {"%warpid", 4, [](R by) -> Value { return by.warp.index; }},
    {"%nwarpid", 4, [](R by) -> Value { return by.shape().warps; }},
    {"%smid", 4, [](R by) -> Value { return by.warp.block->slot % by.shape().gpu->sms; }},
    {"%nsmid", 4, [](R by) -> Value { return by.shape().gpu->sms; }},
    {"%gridid", 4, [](R) -> Value { return 1; }},
    {"%clock", 4, [](R by) -> Value { return by.cycles() & kLow; }},
    {"%clock_hi", 4, [](R by) -> Value { return by.cycles() >> 32U; }},
    {"%clock64", 8, [](R by) -> Value { return by.cycles(); }},
    {"%globaltimer", 8, [](R by) -> Value { return by.nanoseconds(); }},
    {"%globaltimer_lo", 4, [](R by) -> Value { return by.nanoseconds() & kLow; }},
    {"%globaltimer_hi", 4, [](R by) -> Value { return by.nanoseconds() >> 32U; }},
    {"%lanemask_eq", 4, [](R by) -> Value { return 1U << by.lane; }},
    {"%lanemask_le", 4, [](R by) -> Value { return (2ULL << by.lane) - 1; }},
    {"%lanemask_lt", 4, [](R by) -> Value { return (1ULL << by.lane) - 1; }},
    {"%lanemask_ge", 4, [](R by) -> Value { return kLow << by.lane & kLow; }},
    {"%lanemask_gt", 4, [](R by) -> Value { return (kLow - 1) << by.lane & kLow; }},
    {"%dynamic_smem_size", 4, [](R by) -> Value { return by.executor.options.dynamic_shared; }},
    {"%total_smem_size", 4, [](R by) -> Value { return by.shape().shared_bytes; }},
    // Where the barrier of a cooperative launch lies: cooperative_groups looks there.
    {"%envreg1", 4, [](R by) -> Value { return by.executor.grid_barrier >> 32U; }},
    {"%envreg2", 4, [](R by) -> Value { return by.executor.grid_barrier & kLow; }},
    {kDynamicBase, 4, [](R by) -> Value { return (by.executor.kernel.static_shared + 15ULL) / 16 * 16; }},
};

}  // namespace

std::optional<Special> special_named(std::string_view name) {
  const bool has_axis = name.ends_with(".x") || name.ends_with(".y") || name.ends_with(".z");
  const auto axis = static_cast<std::uint8_t>(has_axis ? name.back() - 'x' : 0);
  if (has_axis) name.remove_suffix(2);
  const auto* const entry = std::ranges::find(kTable, name, &Entry::name);
  if (entry == std::end(kTable) || entry->has_axes != has_axis) return std::nullopt;
  return Special{entry->bytes, static_cast<std::uint8_t>(entry - kTable), axis};
}

namespace run {

bool special(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const Entry& entry = kTable[op.variant];
  const Warp& warp = *lanes.of;
  if (entry.name.starts_with("%clock") || entry.name.starts_with("%globaltimer"))
    executor.clock_was_read = true;
  each_lane(mask, [&](std::uint32_t i) {
    const Value value = entry.value({executor, warp, i, op.count});
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
