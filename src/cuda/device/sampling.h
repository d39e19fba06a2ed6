// Head and sampling, as program/sampling.h has it: same seed, same logits, same token.
//
// While the head runs, the control warp keeps the best of its block's tokens: one for greedy and Gumbel-max rows, the top_k for
// others; all blocks publish theirs once and then merge everybody's. What a choice does between (top_p, min_p, noise among the
// top_k) happens after the merge, in every block alike.
#pragma once

#include <cstdint>

#define SLUICE_HOST_DEVICE __host__ __device__
#define SLUICE_ROLLED _Pragma("unroll 1")
#include "cuda/device/candidates.h"
#include "program/sampler_math.h"

namespace sluice::cuda::device {

namespace sampler = program::sampler;

__device__ inline bool chooses_one(ChoiceKind kind) {
  return kind == ChoiceKind::kGreedy || kind == ChoiceKind::kGumbel;
}

// Once in the code: it is long.
static __device__ __noinline__ float noise_of(const Row& row, std::uint32_t step, std::uint32_t token) {
  return sampler::token_gumbel(row.seed, row.draw + step, token);
}

// exp(key - largest), and the same in units that add up exactly.
static __device__ __noinline__ float relative(float key, float largest) {
  return sampler::relative_probability(key, largest);
}
__device__ inline std::uint64_t units_of(float key, float largest) {
  return sampler::probability_units(relative(key, largest));
}

// A lane of the control warp while the head runs: it sees two columns of each panel, of one row of the step. Other ops have no use for it.
class HeadLane {
 public:
  __device__ HeadLane(const Block& block, bool is_head) : block_(block), row_(block.lane / 4) {
    if (!is_head) return;
    if (row_ < block.launch.n_rows) {
      const Row& row = block.launch.rows[row_];
      if (row.choice != ChoiceKind::kHost) kind_ = row.choice;
      n_tokens_ = row.n_tokens;
      if (row.logits_at != kNone)
        logits_ = block.launch.buffers.logits + std::size_t{row.logits_at} * block.launch.model.vocab;
      edit_ = block.launch.edits + row.first_edit;
      edits_end_ = edit_ + row.n_edits;
    }
    has_lists_ = __any_sync(0xFFFFFFFFU, kind_ == ChoiceKind::kTopK) != 0;
  }

  // A column's logit; columns ascend. All lanes call it; `is_there`: for this one.
  __device__ void take(std::uint32_t column, float logit, bool is_there) {
    Candidate it = no_candidate();
    if (is_there) {
      if (logits_ != nullptr) logits_[column] = logit;
      if (kind_ == ChoiceKind::kGreedy && edit_ == edits_end_) {  // as below, in a few instructions
        if (column < n_tokens_ && logit > best_.key) best_ = {logit, column};
      } else if (kind_ != ChoiceKind::kNothing) {
        const float edited = edit(column, logit);
        if (column < n_tokens_ && edited > -__builtin_inff()) it = candidate(column, edited);
        if (kind_ != ChoiceKind::kTopK && ranks_before(it, best_)) best_ = it;
      }
    }
    if (!has_lists_) return;
    if (kind_ != ChoiceKind::kTopK) it.token = kNone;
    offer(Lists(block_), row_, kind_ == ChoiceKind::kTopK ? block_.launch.rows[row_].top_k : 1, it);
  }

  // The block's candidates to where all blocks read them.
  __device__ void publish() {
    best_ = best_of_lanes(best_, 4);
    const Control& control = block_.launch.control;
    if (chooses_one(kind_) && block_.lane % 4 == 0) *place(control, row_, 0) = best_;
#pragma unroll 1
    for (std::uint32_t row = 0; row < block_.launch.n_rows; ++row) {
      if (block_.launch.rows[row].choice != ChoiceKind::kTopK) continue;
#pragma unroll 1
      for (std::uint32_t i = block_.lane; i < block_.launch.rows[row].top_k; i += 32)
        *place(control, row, i) = i < block_.state().n_listed[row] ? block_.list(row)[i] : no_candidate();
    }
  }

 private:
  __device__ static Candidate* place(const Control& control, std::uint32_t row, std::uint32_t rank) {
    return control.candidates + (std::size_t{row} * kMostTopK + rank) * gridDim.x + blockIdx.x;
  }

  __device__ float edit(std::uint32_t column, float logit) {
    for (; edit_ != edits_end_; ++edit_) {
      const auto token = static_cast<std::uint32_t>(edit_->token);
      if (token < column) continue;
      if (token > column) break;
      return (logit > 0.0F ? logit / edit_->repeat : logit * edit_->repeat) + edit_->add;
    }
    return logit;
  }

  __device__ Candidate candidate(std::uint32_t column, float logit) const {
    if (kind_ == ChoiceKind::kGreedy) return {logit, column};
    const Row& row = block_.launch.rows[row_];
    const float scaled = logit / row.temperature;
    if (kind_ == ChoiceKind::kTopK) return {scaled, column};
    // No noise could lift it, and noise is what costs.
    if (best_.token != kNone && scaled + sampler::kGumbelMax < best_.key) return no_candidate();
    return {scaled + noise_of(row, block_.step, column), column};
  }

  const Block& block_;
  std::uint32_t row_;
  // What every column needs of the row.
  ChoiceKind kind_ = ChoiceKind::kNothing;  // that too where the host chooses
  bool has_lists_ = false;                  // any lane's row has one
  std::uint32_t n_tokens_ = 0;
  float* logits_ = nullptr;  // [vocab]; null: not wanted
  const Edit* edit_ = nullptr;
  const Edit* edits_end_ = nullptr;
  Candidate best_ = no_candidate();
};

// Before the head, control warp.
__device__ inline void clear_lists(const Block& block) {
  if (block.lane < kMostDecodeRows) block.state().n_listed[block.lane] = 0;
  __syncwarp();
}

__device__ inline Candidate load_candidate(const Candidate* at) {
  const float2 bits = load_shared_result(reinterpret_cast<const float2*>(at));
  return {bits.x, __float_as_uint(bits.y)};
}

// A warp: what top_p, min_p and noise make of the row's top_k, which stand in its list.
__device__ inline std::int32_t choose_listed(const Block& block, std::uint32_t index) {
  const Row& row = block.launch.rows[index];
  const Candidate* list = block.list(index);
  std::uint32_t n = block.state().n_listed[index];
  if (n == 0) return -1;
  const float largest = list[0].key;
  if (row.top_p < 1.0F) {
    // Twice: all of them, then as many as are wanted.
    std::uint64_t wanted = ~std::uint64_t{0};
    std::uint32_t kept = 0;
#pragma unroll 1
    for (std::uint32_t pass = 0; pass < 2; ++pass) {
      std::uint64_t sum = 0;
#pragma unroll 1
      for (kept = 0; kept < n && sum < wanted; ++kept) sum += units_of(list[kept].key, largest);
      if (pass == 0) wanted = sampler::units_wanted(row.top_p, sum);
    }
    n = kept;
  }
  Candidate best = no_candidate();
#pragma unroll 1
  for (std::uint32_t i = block.lane; i < n; i += 32) {
    if (row.min_p > 0.0F && relative(list[i].key, largest) < row.min_p) continue;
    const Candidate noisy{list[i].key + noise_of(row, block.step, list[i].token), list[i].token};
    if (ranks_before(noisy, best)) best = noisy;
  }
  return static_cast<std::int32_t>(best_of_lanes(best, 32).token);
}

// A compute warp: the row's token from all blocks' candidates; -1 if there is none.
__device__ inline std::int32_t merge_row(const Block& block, std::uint32_t index) {
  const Row& row = block.launch.rows[index];
  const Candidate* candidates = block.launch.control.candidates + std::size_t{index} * kMostTopK * gridDim.x;
  if (chooses_one(row.choice)) {
    Candidate best = no_candidate();
#pragma unroll 1
    for (std::uint32_t i = block.lane; i < gridDim.x; i += 32) {
      const Candidate it = load_candidate(candidates + i);
      if (ranks_before(it, best)) best = it;
    }
    return static_cast<std::int32_t>(best_of_lanes(best, 32).token);
  }
  if (row.choice != ChoiceKind::kTopK) return -1;
  if (block.lane == 0) block.state().n_listed[index] = 0;
  __syncwarp();
  const std::uint32_t n = row.top_k * gridDim.x;
#pragma unroll 1
  for (std::uint32_t first = 0; first < n; first += 32) {
    const std::uint32_t i = first + block.lane;
    offer(Lists(block), index, row.top_k, i < n ? load_candidate(candidates + i) : no_candidate());
  }
  return choose_listed(block, index);
}

// Why no step follows this one; all threads, when the step's tokens and block 0's decision are in the block's state.
__device__ inline Ending ending_of(const Block& block) {
  const Launch& launch = block.launch;
  bool by_host = false;
  bool no_token = false;
  bool stops = false;
#pragma unroll 1
  for (std::uint32_t row = 0; row < launch.n_rows; ++row) {
    const ChoiceKind kind = launch.rows[row].choice;
    if (kind == ChoiceKind::kHost) by_host = true;
    if (kind == ChoiceKind::kHost || kind == ChoiceKind::kNothing) continue;
    const std::int32_t token = block.state().tokens[row];
    if (token < 0) no_token = true;
#pragma unroll 1
    for (std::uint32_t i = 0; i < launch.n_stop_tokens; ++i)
      if (token == launch.stop_tokens[i]) stops = true;
  }
  if (by_host) return Ending::kHostChoice;
  if (no_token) return Ending::kNoToken;
  if (stops) return Ending::kStopToken;
  if (block.step + 1 == launch.n_steps) return Ending::kAllSteps;
  return static_cast<Ending>(block.state().ending);
}

}  // namespace sluice::cuda::device
