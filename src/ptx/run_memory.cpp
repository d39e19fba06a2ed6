// Loads, stores, atomics, and the moves of matrices: what warps do with memory.
#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "ptx/executor.h"
#include "ptx/observer.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

std::string_view name_of(Space space) {
  if (space == Space::kShared) return "shared";
  if (space == Space::kLocal) return "local";
  if (space == Space::kParam) return "parameter";
  return space == Space::kConst ? "constant" : "global";
}

std::uint64_t window_of(Space space) {
  if (space == Space::kShared) return kSharedWindow;
  if (space == Space::kLocal) return kLocalWindow;
  return space == Space::kParam ? kParamWindow : 0;
}

// Calls f with an integer of `size` bytes.
template <class F>
void with_size(std::uint32_t size, F&& f) {
  if (size == 1) return f(std::uint8_t{});
  if (size == 2) return f(std::uint16_t{});
  return size == 4 ? f(std::uint32_t{}) : f(std::uint64_t{});
}

// Whether there are such moves: from or to a register that is as wide as the element, or wider, and 2 bytes at least.
constexpr bool moves(std::size_t element_bytes, std::size_t register_bytes) {
  return element_bytes <= register_bytes && register_bytes != 1;
}

// Calls f with integers as large as an element in memory and its register.
template <class F>
void with_sizes(const Operation& op, F&& f) {
  with_size(op.element, [&](auto element) {
    with_size(op.width, [&](auto width) {
      if constexpr (moves(sizeof(element), sizeof(width))) f(element, width);
    });
  });
}

// A copy without a call where the number of bytes is one of cp.async's.
void move_bytes(std::byte* to, const std::byte* from, std::uint32_t size) {
  if (size == 16)
    std::memcpy(to, from, 16);
  else if (size == 8)
    std::memcpy(to, from, 8);
  else if (size == 4)
    std::memcpy(to, from, 4);
  else
    std::memcpy(to, from, size);
}

// The lanes' addresses in one space, checked, and where that space lies on the host.
struct Place {
  Space space = Space::kGlobal;
  std::uint32_t mask = 0;
  alignas(64) std::uint64_t addresses[kLanes];
  AddressSummary summary;
  std::byte* base = nullptr;
  std::uint64_t per_lane = 0;  // local memory: from one lane's to the next
  // As a number: global memory's base is null, its addresses are the host's.
  std::byte* of(std::uint32_t lane) const {
    return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(base) + addresses[lane] +
                                        lane * per_lane);
  }
};

// Calls f for the lanes of each space that the addresses of `op` fall into: one, unless they are generic. `wide`: they have 64 bits.
template <class F>
void with_places(Executor& executor, const Lanes& lanes, const Operation& op, std::uint32_t mask, bool wide,
                 std::uint32_t size, bool writes, F&& f) {
  Place place;
  place.space = op.space;
  place.mask = mask;
  const void* row = lanes.of->rows.at<const void>(op.rows[1]);
  place.summary = kernels().addresses(row, wide, op.immediate, mask, size, place.addresses);
  std::uint32_t left = 0;
  if (op.space == Space::kGeneric) {
    const std::uint64_t window = place.addresses[first_lane(mask)] & kWindowMask;
    if (((place.summary.lowest ^ place.summary.highest) & kWindowMask) != 0) {
      each_lane(mask,
                [&](std::uint32_t i) { left |= (place.addresses[i] & kWindowMask) != window ? 1U << i : 0; });
      place.mask = mask & ~left;
    }
    place.space = Space::kGlobal;
    for (const Space space : {Space::kShared, Space::kLocal, Space::kParam}) {
      if (window_of(space) == window) place.space = space;
    }
    if (left != 0 || place.space != Space::kGlobal) {
      const std::int64_t shift = place.space == Space::kGlobal ? 0 : static_cast<std::int64_t>(window);
      place.summary = kernels().addresses(row, wide, op.immediate - shift, place.mask, size, place.addresses);
    }
  }
  executor.check(lanes, place.space, place.addresses, place.summary, place.mask, size, size, writes);
  place.base = executor.base(lanes, place.space);
  place.per_lane = place.space == Space::kLocal ? executor.kernel.local_bytes : 0;
  f(place);
  if (left != 0) with_places(executor, lanes, op, left, wide, size, writes, f);
}

Pattern pattern_of(const AddressSummary& summary) {
  if (summary.contiguous) return Pattern::kContiguous;
  return summary.lowest == summary.highest ? Pattern::kOneAddress : Pattern::kUnknown;
}

Access access_of(const Operation& op, const Place& place, std::uint32_t size) {
  return {place.space,
          op.access,
          op.order,
          op.scope,
          size,
          op.element,
          place.mask,
          place.addresses,
          pattern_of(place.summary)};
}

template <class M, class W>
W extend(M value, bool is_signed) {
  return is_signed ? static_cast<W>(static_cast<std::make_signed_t<M>>(value)) : static_cast<W>(value);
}

// Memory elements of type M to registers of lanes of type W.
template <class M, class W>
void gather(const Operation& op, const Rows& rows, const Place& place) {
  const bool strong = op.order != Order::kWeak;
  for (std::uint32_t e = 0; e < op.count; ++e) {
    W* out = rows.at<W>(op.more[e]);
    const std::uint32_t at = e * sizeof(M);
    if (std::is_same_v<M, W> && place.summary.contiguous && !strong && place.per_lane == 0) {
      const auto* from = reinterpret_cast<const std::byte*>(place.of(0)) + at;
      if (op.count == 1) {
        std::memcpy(out, from, kLanes * sizeof(M));
      } else {
        const std::size_t stride = op.count * sizeof(M);
        for (std::uint32_t i = 0; i < kLanes; ++i) std::memcpy(out + i, from + i * stride, sizeof(M));
      }
      continue;
    }
    each_lane(place.mask, [&](std::uint32_t i) {
      M value = 0;
      const std::byte* from = place.of(i) + at;  // local memory of a lane may begin anywhere
      if (strong)
        value = __atomic_load_n(reinterpret_cast<const M*>(from), __ATOMIC_ACQUIRE);
      else
        std::memcpy(&value, from, sizeof(M));
      out[i] = extend<M, W>(value, op.sign_extend);
    });
  }
}

// The other way. True if memory has changed.
template <class M, class W>
bool scatter(const Operation& op, const Rows& rows, const Place& place) {
  const bool strong = op.order != Order::kWeak;
  bool changed = false;
  for (std::uint32_t e = 0; e < op.count; ++e) {
    const W* in = rows.at<const W>(op.more[e]);
    const std::uint32_t at = e * sizeof(M);
    if (std::is_same_v<M, W> && op.count == 1 && place.summary.contiguous && !strong && place.per_lane == 0) {
      changed = changed || std::memcmp(place.of(0), in, kLanes * sizeof(M)) != 0;
      std::memcpy(place.of(0), in, kLanes * sizeof(M));
      continue;
    }
    each_lane(place.mask, [&](std::uint32_t i) {
      const M value = static_cast<M>(in[i]);
      M before = 0;
      std::byte* to = place.of(i) + at;  // local memory of a lane may begin anywhere
      std::memcpy(&before, to, sizeof(M));
      changed = changed || before != value;
      if (strong)
        __atomic_store_n(reinterpret_cast<M*>(to), value, __ATOMIC_RELEASE);
      else
        std::memcpy(to, &value, sizeof(M));
    });
  }
  return changed;
}

// Read, change, write. True if memory has changed; `failed` gets the lanes whose compare-and-swap stored nothing.
template <class M>
bool exchange(const Operation& op, const Rows& rows, const Place& place, std::uint32_t& failed) {
  const run::Change change = place.space == Space::kGlobal ? run::in_global_memory(op.change) : op.change;
  const bool swaps = op.sign_extend;
  const M* b = rows.at<const M>(op.rows[2]);
  const M* c = swaps ? rows.at<const M>(op.rows[3]) : b;
  M found[kLanes];
  bool changed = false;
  each_lane(place.mask, [&](std::uint32_t i) {
    auto* to = reinterpret_cast<M*>(place.of(i));
    M old = __atomic_load_n(to, __ATOMIC_SEQ_CST);
    M next = 0;
    do {  // the host may write meanwhile
      next = static_cast<M>(change(old, b[i], c[i]));
    } while (!__atomic_compare_exchange_n(to, &old, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    found[i] = old;
    changed = changed || next != old;
    if (swaps && old != b[i]) failed |= 1U << i;
  });
  M* d = rows.at<M>(op.rows[0]);
  each_lane(place.mask, [&](std::uint32_t i) { d[i] = found[i]; });
  return changed;
}

// What load, store and atomic have in common. f does it, and says whether memory has changed.
template <class F>
bool access_memory(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask,
                   std::uint32_t size, bool writes, F&& f) {
  with_places(executor, lanes, op, mask, op.variant != 0, size, writes,
              [&](const Place& place) { executor.changes += f(place) ? 1 : 0; });
  ++lanes.pc;
  if (op.order == Order::kWeak) return true;
  executor.polled = true;  // it may wait for another warp: often, its turn ends
  return (executor.random() & 1U) != 0;
}

bool add_to_addresses(Lanes& lanes, const Operation& op, std::uint32_t mask, std::uint64_t what) {
  const auto* a = lanes.of->rows.at<const std::uint64_t>(op.rows[1]);
  auto* d = lanes.of->rows.at<std::uint64_t>(op.rows[0]);
  each_lane(mask, [&](std::uint32_t i) { d[i] = a[i] + what; });
  ++lanes.pc;
  return true;
}

}  // namespace

std::byte* Executor::base(const Lanes& lanes, Space space) const {
  if (space == Space::kShared) return lanes.of->block->shared.data();
  if (space == Space::kLocal) return local(*lanes.of);
  return space == Space::kParam ? const_cast<std::byte*>(parameters.data()) : nullptr;
}

std::byte* Executor::local(Warp& warp) const {
  if (warp.local.empty()) warp.local.assign(std::size_t{kernel.local_bytes} * kLanes, kPoison);
  return warp.local.data();
}

void Executor::check(const Lanes& lanes, Space space, const std::uint64_t* addresses,
                     const AddressSummary& summary, std::uint32_t mask, std::uint32_t size,
                     std::uint32_t align, bool writes) {
  if ((summary.bits & (align - 1)) != 0) {
    each_lane(mask, [&](std::uint32_t i) {
      if ((addresses[i] & (align - 1)) == 0) return;
      fail(lanes, FindingKind::kMisaligned,
           fmt::format("access of {} at {:#x} in {} memory is not aligned to {}", counted(size, "byte"),
                       addresses[i], name_of(space), align),
           i);
    });
  }
  const std::string_view verb = writes ? "write" : "read";
  if (space != Space::kGlobal && space != Space::kConst) {
    std::uint64_t limit = shape.shared_bytes;
    if (space == Space::kLocal) limit = kernel.local_bytes;
    if (space == Space::kParam) limit = parameters.size();
    const bool refused = writes && space == Space::kParam;
    const auto holds = [&](std::uint64_t at) { return !refused && at < limit && limit - at >= size; };
    if (holds(summary.highest)) return;
    each_lane(mask, [&](std::uint32_t i) {
      if (holds(addresses[i])) return;
      fail(lanes, FindingKind::kOutOfBounds,
           fmt::format("{} of {} at {:#x} of {} memory is out of bounds: it has {}", verb,
                       counted(size, "byte"), addresses[i], name_of(space), counted(limit, "byte")),
           i);
    });
    return;
  }
  const Allocation*& hint = hints_[lanes.pc];
  const auto read_only = [&](const Allocation& allocation) {
    return writes && allocation.kind == AllocationKind::kConstant;
  };
  const auto holds = [&](const Allocation* allocation, std::uint64_t first, std::uint64_t last) {
    return allocation != nullptr && first >= allocation->address && last < allocation->end() &&
           allocation->end() - last >= size && !read_only(*allocation);
  };
  if (holds(hint, summary.lowest, summary.highest)) return;
  hint = shape.allocation_before(summary.lowest);
  if (holds(hint, summary.lowest, summary.highest)) return;
  each_lane(mask, [&](std::uint32_t i) {
    const Allocation* allocation = shape.allocation_before(addresses[i]);
    if (holds(allocation, addresses[i], addresses[i])) return;
    std::string where = "no allocation is near";
    if (allocation != nullptr && read_only(*allocation)) {
      where = allocation->name + " is constant";
    } else if (allocation != nullptr) {
      where = fmt::format(
          "{} of {} begins {} before it", allocation->name.empty() ? "the allocation" : allocation->name,
          counted(allocation->size, "byte"), counted(addresses[i] - allocation->address, "byte"));
    }
    fail(lanes, FindingKind::kOutOfBounds,
         fmt::format("{} of {} at {:#x} is out of bounds: {}", verb, counted(size, "byte"), addresses[i],
                     where),
         i);
  });
}

namespace run {

bool load(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const std::uint32_t size = std::uint32_t{op.element} * op.count;
  return access_memory(executor, lanes, op, mask, size, false, [&](const Place& place) {
    if (executor.observer != nullptr && place.space != Space::kParam)
      executor.observer->access(lanes, access_of(op, place, size));
    with_sizes(op, [&](auto element, auto width) {
      gather<decltype(element), decltype(width)>(op, lanes.of->rows, place);
    });
    return false;
  });
}

bool store(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const std::uint32_t size = std::uint32_t{op.element} * op.count;
  return access_memory(executor, lanes, op, mask, size, true, [&](const Place& place) {
    if (executor.observer != nullptr) executor.observer->access(lanes, access_of(op, place, size));
    bool changed = false;
    with_sizes(op, [&](auto element, auto width) {
      changed = scatter<decltype(element), decltype(width)>(op, lanes.of->rows, place);
    });
    return changed;
  });
}

// Lanes take their turns in ascending order.
bool atomic(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  return access_memory(executor, lanes, op, mask, op.element, true, [&](const Place& place) {
    Access access = access_of(op, place, op.element);
    if (executor.observer != nullptr && op.count != 0) executor.observer->before_atomic(lanes, access);
    bool changed = false;
    with_size(op.element, [&](auto element) {
      if constexpr (sizeof(element) > 1)
        changed = exchange<decltype(element)>(op, lanes.of->rows, place, access.failed);
    });
    if (executor.observer != nullptr) executor.observer->access(lanes, access);
    return changed;
  });
}

bool fence(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  if (executor.observer != nullptr && mask != 0) {
    const std::uint32_t whole = std::exchange(lanes.mask, mask);
    executor.observer->fence(lanes, op.order, op.scope);
    lanes.mask = whole;
  }
  ++lanes.pc;
  return true;
}

// Constants share the window of global memory, where their allocations tell them apart.
bool is_in_space(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const auto* a = lanes.of->rows.at<const std::uint64_t>(op.rows[1]);
  auto* p = lanes.of->rows.at<std::uint32_t>(op.rows[0]);
  std::uint32_t bits = 0;
  each_lane(mask, [&](std::uint32_t i) {
    const std::uint64_t window = a[i] & kWindowMask;
    bool inside = window == window_of(op.space);
    if (op.space == Space::kGlobal && window == kParamWindow) {
      inside = true;  // the ISA has the window of kernel parameters in it
    } else if (inside && (op.space == Space::kGlobal || op.space == Space::kConst)) {
      const Allocation* allocation = executor.shape.allocation_before(a[i]);
      const bool constant =
          allocation != nullptr && a[i] < allocation->end() && allocation->kind == AllocationKind::kConstant;
      inside = constant == (op.space == Space::kConst);
    }
    bits |= inside ? 1U << i : 0;
  });
  *p = (*p & ~mask) | (bits & mask);
  ++lanes.pc;
  return true;
}

bool to_generic(Executor& /*executor*/, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  return add_to_addresses(lanes, op, mask, window_of(op.space));
}

bool from_generic(Executor& /*executor*/, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  return add_to_addresses(lanes, op, mask, 0 - window_of(op.space));
}

// --- Matrices ---

namespace {

// False while the warp's other lanes are still on their way.
bool whole_warp(Executor& executor, Lanes& lanes, std::uint32_t mask, std::string_view what) {
  Executor::keep_only(lanes, mask);
  if (!executor.meet(lanes, ~0U)) return false;
  if (lanes.mask != ~0U) {
    executor.fail(lanes, FindingKind::kAbsentLane, fmt::format("{} by a warp without all of its lanes", what),
                  first_lane(~lanes.mask));
  }
  return true;
}

}  // namespace

bool multiply_matrices(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  if (!whole_warp(executor, lanes, mask, "mma")) return false;
  op.inner(op, lanes.of->rows, ~0U);
  ++lanes.pc;
  return true;
}

// Lanes 8 m to 8 m + 7 give the rows of matrix m. Each lane gets two elements of each matrix.
bool load_matrix(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  if (!whole_warp(executor, lanes, mask, "ldmatrix")) return false;
  const std::uint32_t givers = op.count == 4 ? ~0U : (1U << (8U * op.count)) - 1;
  if (op.element != 0) {  // the other lanes' addresses must be valid, too
    with_places(executor, lanes, op, ~0U, op.sign_extend, 16, false, [](const Place& /*place*/) {});
  }
  const Rows& rows = lanes.of->rows;
  std::uint16_t elements[kLanes][8];
  with_places(executor, lanes, op, givers, op.sign_extend, 16, false, [&](const Place& place) {
    Access access = access_of(op, place, 16);
    access.element = 4;
    if (executor.observer != nullptr) executor.observer->access(lanes, access);
    each_lane(place.mask, [&](std::uint32_t i) { std::memcpy(elements[i], place.of(i), 16); });
  });
  for (std::uint32_t m = 0; m < op.count; ++m) {
    auto* out = rows.at<std::uint32_t>(op.more[m]);
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      const std::uint32_t r = i / 4;
      const std::uint32_t c = i % 4 * 2;
      const bool transposed = op.variant != 0;
      const std::uint32_t low = transposed ? elements[8 * m + c][r] : elements[8 * m + r][c];
      const std::uint32_t high = transposed ? elements[8 * m + c + 1][r] : elements[8 * m + r][c + 1];
      out[i] = low | high << 16U;
    }
  }
  ++lanes.pc;
  return true;
}

// The transpose of a matrix of 8 x 8 halves, two in each lane.
bool move_matrix(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  if (!whole_warp(executor, lanes, mask, "movmatrix")) return false;
  std::uint16_t elements[8][8];
  std::memcpy(elements, lanes.of->rows.at<std::byte>(op.rows[1]), sizeof(elements));
  std::uint16_t transposed[8][8];
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 8; ++c) transposed[c][r] = elements[r][c];
  }
  std::memcpy(lanes.of->rows.at<std::byte>(op.rows[0]), transposed, sizeof(transposed));
  ++lanes.pc;
  return true;
}

// --- Copies that go on by themselves ---

bool copy_async(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  Warp& warp = *lanes.of;
  if (executor.landed.empty()) executor.landed.push_back(std::make_unique_for_overwrite<PendingCopy>());
  auto made = std::move(executor.landed.back());
  executor.landed.pop_back();
  PendingCopy& copy = *made;
  copy.read = copy.written = false;
  copy.id = executor.next_copy++;
  copy.pc = lanes.pc;
  copy.size = op.count;
  copy.mask = copy.waiting = mask;
  const auto* sizes = warp.rows.at<const std::uint32_t>(op.rows[3]);
  const std::int64_t to_offset = *warp.rows.at<const std::int32_t>(op.rows[4]);
  const AddressSummary to = kernels().addresses(warp.rows.at<const void>(op.rows[1]), op.variant != 0,
                                                to_offset, mask, copy.size, copy.destination);
  executor.check(lanes, Space::kShared, copy.destination, to, mask, copy.size, copy.size, true);
  copy.destination_pattern = pattern_of(to);
  std::uint32_t readers = 0;
  each_lane(mask, [&](std::uint32_t i) {
    copy.source_size[i] = std::min(sizes[i], copy.size);
    if (sizes[i] > copy.size)
      executor.fail(lanes, FindingKind::kOther, "cp.async with a source size above its size", i);
    readers |= copy.source_size[i] != 0 ? 1U << i : 0;
  });
  if (readers != 0) {
    const AddressSummary from = kernels().addresses(warp.rows.at<const void>(op.rows[2]), true, op.immediate,
                                                    readers, copy.size, copy.source);
    copy.source_pattern = pattern_of(from);
    for (std::uint32_t left = readers; left != 0;) {  // lanes may read less than the others
      const std::uint32_t bytes = copy.source_size[first_lane(left)];
      std::uint32_t same = 0;
      each_lane(left, [&](std::uint32_t i) { same |= copy.source_size[i] == bytes ? 1U << i : 0; });
      executor.check(lanes, Space::kGlobal, copy.source, from, same, bytes, copy.size, false);
      left &= ~same;
    }
  }
  std::ranges::copy(warp.committed, copy.group);
  if (executor.observer != nullptr) executor.observer->copy_issued(lanes, copy);
  // Until it is written, the destination holds nothing that anybody may use.
  std::byte* shared = executor.base(lanes, Space::kShared);
  std::array<std::byte, sizeof(copy.data[0])> poison;
  poison.fill(kPoison);
  each_lane(mask,
            [&](std::uint32_t i) { move_bytes(shared + copy.destination[i], poison.data(), copy.size); });
  const std::uint64_t dice = executor.random();
  if ((dice & 3U) == 0) executor.land(warp, copy, true, false);
  if ((dice & 15U) == 0) executor.land(warp, copy, true, true);
  warp.copies.push_back(std::move(made));
  ++lanes.pc;
  return true;
}

bool commit_copies(Executor& /*executor*/, Lanes& lanes, const Operation& /*op*/, std::uint32_t mask) {
  each_lane(mask, [&](std::uint32_t i) { ++lanes.of->committed[i]; });
  ++lanes.pc;
  return true;
}

// Those of the lane's groups that are not among the last `immediate`; -1: all, committed or not.
bool wait_copies(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  Warp& warp = *lanes.of;
  for (auto& copy : warp.copies) {
    std::uint32_t done = 0;
    each_lane(copy->waiting & mask, [&](std::uint32_t i) {
      const bool waited =
          op.immediate < 0 || copy->group[i] + static_cast<std::uint64_t>(op.immediate) < warp.committed[i];
      done |= waited ? 1U << i : 0;
    });
    if (done == 0) continue;
    executor.land(warp, *copy, true, true);
    copy->waiting &= ~done;
    if (executor.observer != nullptr) executor.observer->copy_complete(lanes, copy->id, done);
    if (copy->waiting == 0) executor.landed.push_back(std::move(copy));
  }
  std::erase(warp.copies, nullptr);
  ++lanes.pc;
  return true;
}

}  // namespace run

void Executor::land(const Warp& warp, PendingCopy& copy, bool read, bool write) {
  if (read && !copy.read) {
    copy.read = true;
    each_lane(copy.mask, [&](std::uint32_t i) {
      copy.data[i] = {};
      if (copy.source_size[i] != 0)
        move_bytes(copy.data[i].data(), reinterpret_cast<const std::byte*>(copy.source[i]),
                   copy.source_size[i]);
    });
  }
  if (write && !copy.written) {
    copy.written = true;
    ++changes;
    std::byte* shared = warp.block->shared.data();
    each_lane(copy.mask, [&](std::uint32_t i) {
      move_bytes(shared + copy.destination[i], copy.data[i].data(), copy.size);
    });
  }
}

// Some of what is in flight moves on.
void Executor::advance_copies(Warp& warp) {
  const std::uint64_t dice = random();
  PendingCopy& copy = *warp.copies[(dice >> 8U) % warp.copies.size()];
  if ((dice & 3U) == 0) land(warp, copy, true, (dice & 4U) != 0);
}

}  // namespace sluice::ptx
