// What `bench` runs: steps of three kinds, on sequences that begin empty.
//
//   decode   -n steps, a row of each of several sequences in every one
//   prefill  -p rows of one sequence, in steps of at most kPrefillRows
//   mixed    the same beside a decode row of each of several other sequences
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "program/backend.h"

namespace sluice::cli {

enum class BenchKind : std::uint8_t { kDecode, kPrefill, kMixed };

std::string_view name_of(BenchKind kind);

struct BenchCase {
  BenchKind kind = BenchKind::kDecode;
  std::size_t sequences = 0;  // that decode
  std::size_t prefill = 0;    // rows of the sequence that is fed
  std::size_t steps = 0;

  std::size_t tokens() const { return prefill + sequences * steps; }  // of all steps
  std::size_t rows() const;                                           // of the first step
  std::size_t context() const;  // positions of the longest sequence in the end
};

inline constexpr std::size_t kPrefillRows = 512;

// Decode steps before the timed ones: buffers, Programs and caches are then as they stay.
inline constexpr std::size_t kWarmUpSteps = 2;

// Decode for each of `rows`, prefill, mixed with the largest of `rows`; without those for which `prefill` or `decode` is 0.
std::vector<BenchCase> make_cases(const std::vector<std::size_t>& rows, std::size_t prefill,
                                  std::size_t decode);

// The steps of a case: those that come before the clock starts, and those that are timed. Slots 0 to sequences - 1 decode,
// the next one is fed. Tokens are random; every decode row, and the last row of what is fed, chooses a token.
struct BenchSteps {
  std::vector<program::Step> warm_up;
  std::vector<program::Step> timed;
};
BenchSteps make_steps(const BenchCase& what, const model::ModelConfig& config, std::uint64_t seed);

}  // namespace sluice::cli
