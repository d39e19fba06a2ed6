// What the executor does for operations that need more than a lane's registers (WarpFunction). Operands, by index of
// Operation::rows, stand beside each; `more` holds vectors.
#pragma once

#include "ptx/operation.h"

namespace sluice::ptx::run {

// Row 1: base address; more: `count` registers. `immediate`: offset. `variant` 1: the base has 64 bits.
bool load(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool store(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
// d, address, b, c; `change` says how the value changes; `count` 0: it does so whatever it was; `sign_extend`: atom.cas.
bool atomic(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool fence(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool load_matrix(Executor& executor, Lanes& lanes, const Operation& op,
                 std::uint32_t mask);  // more: d…; row 1: address
bool move_matrix(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);  // d, a
bool multiply_matrices(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool copy_async(Executor& executor, Lanes& lanes, const Operation& op,
                std::uint32_t mask);  // -, to, from, source size
bool commit_copies(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool wait_copies(Executor& executor, Lanes& lanes, const Operation& op,
                 std::uint32_t mask);  // immediate: groups that may be open
bool is_in_space(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);  // p, address
bool to_generic(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);   // d, a (cvta)
bool from_generic(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);

bool branch(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);  // immediate: target
bool branch_indexed(Executor& executor, Lanes& lanes, const Operation& op,
                    std::uint32_t mask);  // -, index; immediate: table
bool call(Executor& executor, Lanes& lanes, const Operation& op,
          std::uint32_t mask);  // -, target or constant; immediate: site
bool leave(Executor& executor, Lanes& lanes, const Operation& op,
           std::uint32_t mask);  // ret; immediate: function
bool exit(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool trap(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool sleep(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool nothing(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);

bool special(Executor& executor, Lanes& lanes, const Operation& op,
             std::uint32_t mask);  // d; variant: index in specials()

// -, barrier, threads (row 0: all), predicate. `variant`: BarrierKind; `count` 1: aligned.
enum class BarrierKind : std::uint8_t { kSync, kArrive, kPopc, kAnd, kOr };
bool barrier(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);
bool warp_barrier(Executor& executor, Lanes& lanes, const Operation& op,
                  std::uint32_t mask);  // -, member mask
enum class Shuffle : std::uint8_t { kUp, kDown, kButterfly, kIndex };
bool shuffle(Executor& executor, Lanes& lanes, const Operation& op,
             std::uint32_t mask);  // d, a, b, c, members; more: p
enum class Vote : std::uint8_t { kAll, kAny, kUniform, kBallot };
bool vote(Executor& executor, Lanes& lanes, const Operation& op,
          std::uint32_t mask);  // d, a, members; sign_extend: negated
enum class Match : std::uint8_t { kAny, kAll };
bool match(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);  // d, a, members, p
enum class Reduce : std::uint8_t { kAdd, kMinU, kMaxU, kMinS, kMaxS, kAnd, kOr, kXor };
bool reduce(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);       // d, a, members
bool active_mask(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);  // d

// How an atomic changes what it finds; null if there is no such operation on the type. Values are in the low bits.
using Change = std::uint64_t (*)(std::uint64_t old, std::uint64_t b, std::uint64_t c);
Change change_named(std::string_view operation, Type type);
// The same in global memory, where sums of single precision flush subnormal numbers to zero.
Change in_global_memory(Change change);

}  // namespace sluice::ptx::run
