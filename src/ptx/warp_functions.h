// What the executor does for operations that need more than a lane's registers (WarpFunction). Operands, by index of
// Operation::rows, stand beside each, - where one is unused; `more` holds vectors.
#pragma once

#include "ptx/operation.h"

namespace sluice::ptx::run {

using Action = bool(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);

// -, base address; more: `count` registers. `immediate`: offset. `variant` 1: the base has 64 bits.
Action load, store;
// d, address, b, c; `change` says how the value changes; `count` 0: it does so whatever it was; `sign_extend`: atom.cas.
Action atomic;
Action fence;
Action load_matrix;        // -, address; more: d…
Action move_matrix;        // d, a
Action multiply_matrices;  // more: d…, a…, b…, c…
Action copy_async;         // -, to, from, source size, what to add to `to`
Action commit_copies;
Action wait_copies;               // immediate: groups that may be open
Action is_in_space;               // p, address
Action to_generic, from_generic;  // d, a (cvta)

Action branch;          // immediate: target
Action branch_indexed;  // -, index; immediate: table
Action call;            // -, target or constant; immediate: site
Action leave;           // ret; immediate: function
Action exit, trap, nothing;
Action sleep;  // -, nanoseconds

Action special;  // d; variant: index in specials()

// -, barrier, threads (row 0: all), predicate. `variant`: BarrierKind; `count` 1: aligned.
enum class BarrierKind : std::uint8_t { kSync, kArrive, kPopc, kAnd, kOr };
Action barrier;
Action warp_barrier;  // -, member mask
enum class Shuffle : std::uint8_t { kUp, kDown, kButterfly, kIndex };
Action shuffle;  // d, a, b, c, members; more: p
enum class Vote : std::uint8_t { kAll, kAny, kUniform, kBallot };
Action vote;  // d, a, members
enum class Match : std::uint8_t { kAny, kAll };
Action match;  // d, a, members; more: p of kAll
enum class Reduce : std::uint8_t { kAdd, kMinU, kMaxU, kMinS, kMaxS, kAnd, kOr, kXor };
Action reduce;       // d, a, members
Action active_mask;  // d

// How an atomic changes what it finds; null if there is no such operation on the type. Values are in the low bits.
using Change = std::uint64_t (*)(std::uint64_t old, std::uint64_t b, std::uint64_t c);
Change change_named(std::string_view operation, Type type);
// The same in global memory, where sums of single precision flush subnormal numbers to zero.
Change in_global_memory(Change change);

}  // namespace sluice::ptx::run
