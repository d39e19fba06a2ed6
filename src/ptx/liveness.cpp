#include "ptx/liveness.h"

#include <algorithm>
#include <array>
#include <bit>
#include <queue>

namespace sluice::ptx {
namespace {

constexpr std::uint32_t kNowhere = ~0U;

std::uint32_t index_of(Row row) {
  return row / 2 - 1;
}

using BitSet = std::vector<std::uint64_t>;
bool has(const BitSet& set, std::uint32_t i) {
  return ((set[i / 64] >> (i % 64)) & 1U) != 0;
}
void insert(BitSet& set, std::uint32_t i) {
  set[i / 64] |= std::uint64_t{1} << (i % 64);
}

struct BasicBlock {
  BasicBlock(std::uint32_t first, std::size_t n_registers)
      : begin(first), end(first), used(n_registers / 64 + 1), killed(used), live_in(used), live_out(used) {}

  std::uint32_t begin, end;
  std::vector<std::uint32_t> next;
  BitSet used;    // before it is defined here
  BitSet killed;  // defined here for all lanes
  BitSet live_in, live_out;
};

std::vector<BasicBlock> find_blocks(std::vector<DecodedOperation>& code, std::size_t n_registers) {
  const auto n = static_cast<std::uint32_t>(code.size());
  std::vector<bool> leads(n + 1, false);
  leads[0] = true;
  for (std::uint32_t i = 0; i < n; ++i) {
    for (const std::uint32_t target : code[i].targets) leads[target] = true;
    if (!code[i].falls_through || !code[i].targets.empty()) leads[i + 1] = true;
  }
  std::vector<BasicBlock> blocks;
  std::vector<std::uint32_t> block_at(n + 1, 0);
  for (std::uint32_t i = 0; i < n; ++i) {
    if (leads[i]) blocks.emplace_back(i, n_registers);
    block_at[i] = static_cast<std::uint32_t>(blocks.size() - 1);
    BasicBlock& block = blocks.back();
    block.end = i + 1;
    code[i].each_register([&](Row row, bool defined) {
      if (!defined && !has(block.killed, index_of(row))) insert(block.used, index_of(row));
    });
    code[i].each_register([&](Row row, bool defined) {
      if (defined && code[i].op.guard == 0) insert(block.killed, index_of(row));
    });
  }
  for (BasicBlock& block : blocks) {
    const DecodedOperation& last = code[block.end - 1];
    for (const std::uint32_t target : last.targets)
      if (target < n) block.next.push_back(block_at[target]);
    if (last.falls_through && block.end < n) block.next.push_back(block_at[block.end]);
  }
  return blocks;
}

void solve(std::vector<BasicBlock>& blocks) {
  for (BasicBlock& block : blocks) block.live_in = block.used;
  bool changed = true;
  while (changed) {
    changed = false;
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
      for (std::size_t w = 0; w < block->live_out.size(); ++w) {
        std::uint64_t out = block->live_out[w];
        for (const std::uint32_t next : block->next) out |= blocks[next].live_in[w];
        if (out == block->live_out[w]) continue;
        block->live_out[w] = out;
        block->live_in[w] = block->used[w] | (out & ~block->killed[w]);
        changed = true;
      }
    }
  }
}

// From the first to the last place where it may hold a value; an operation reads at 2 i and writes at 2 i + 1.
struct Interval {
  std::uint32_t begin = kNowhere, end = 0;
  std::uint32_t index = 0;
  void include(std::uint32_t at) {
    begin = std::min(begin, at);
    end = std::max(end, at);
  }
};

std::vector<Interval> find_intervals(std::vector<DecodedOperation>& code,
                                     const std::vector<BasicBlock>& blocks, std::size_t n_registers) {
  std::vector<Interval> intervals(n_registers);
  for (std::uint32_t r = 0; r < n_registers; ++r) intervals[r].index = r;
  for (const BasicBlock& block : blocks) {
    const auto include_all = [&](const BitSet& set, std::uint32_t at) {
      for (std::size_t w = 0; w < set.size(); ++w) {
        for (std::uint64_t rest = set[w]; rest != 0; rest &= rest - 1) {
          intervals[w * 64 + static_cast<std::size_t>(std::countr_zero(rest))].include(at);
        }
      }
    };
    include_all(block.live_in, 2 * block.begin);
    include_all(block.live_out, 2 * block.end);
    for (std::uint32_t i = block.begin; i < block.end; ++i) {
      code[i].each_register(
          [&](Row row, bool defined) { intervals[index_of(row)].include(2 * i + (defined ? 1 : 0)); });
    }
  }
  std::erase_if(intervals, [](const Interval& interval) { return interval.begin == kNowhere; });
  std::ranges::sort(intervals, {}, &Interval::begin);
  return intervals;
}

// Registers of a width: 0 for predicates, 1 to 3 for 2, 4 and 8 bytes.
std::size_t class_of(std::uint8_t width) {
  return width == 0 ? 0 : static_cast<std::size_t>(std::countr_zero(width));
}
std::uint32_t row_bytes(std::size_t kind) {
  return kind == 0 ? 4 : kLanes << kind;
}

}  // namespace

RowPlan assign_rows(std::vector<DecodedOperation>& code, const std::vector<std::uint8_t>& widths,
                    std::uint32_t begin) {
  std::vector<BasicBlock> blocks = find_blocks(code, widths.size());
  solve(blocks);
  const std::vector<Interval> intervals = find_intervals(code, blocks, widths.size());

  // Linear scan: registers of one width share slots, never those of two, since lanes may be at different places.
  std::vector<std::uint32_t> slot(widths.size(), 0);
  std::array<std::vector<std::uint32_t>, 4> free;
  std::array<std::uint32_t, 4> count = {};
  const auto later = [](const Interval& a, const Interval& b) { return a.end > b.end; };
  std::priority_queue<Interval, std::vector<Interval>, decltype(later)> active(later);
  RowPlan plan;
  std::uint32_t words = 0;
  for (const Interval& interval : intervals) {
    while (!active.empty() && active.top().end < interval.begin) {
      const std::uint32_t ended = active.top().index;
      active.pop();
      free[class_of(widths[ended])].push_back(slot[ended]);
      words -= (widths[ended] + 3U) / 4;
    }
    const std::size_t kind = class_of(widths[interval.index]);
    if (free[kind].empty()) {
      slot[interval.index] = count[kind]++;
    } else {
      slot[interval.index] = free[kind].back();
      free[kind].pop_back();
    }
    words += (widths[interval.index] + 3U) / 4;
    plan.live_words = std::max(plan.live_words, words);
    active.push(interval);
  }

  // Predicates first, 16 words to a row of 64 bytes; then the widest.
  std::array<std::uint32_t, 4> base = {begin};
  std::uint32_t at = begin + (count[0] * 4 + 63) / 64 * 64;
  for (std::size_t kind = 3; kind >= 1; --kind) {
    base[kind] = at;
    at += count[kind] * row_bytes(kind);
  }
  plan.begin = begin;
  plan.end = at;
  for (DecodedOperation& operation : code) {
    operation.each_register([&](Row& row, bool /*defined*/) {
      const std::size_t kind = class_of(widths[index_of(row)]);
      row = base[kind] + slot[index_of(row)] * row_bytes(kind);
    });
  }
  return plan;
}

}  // namespace sluice::ptx
