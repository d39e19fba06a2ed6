#include "ptx/executor.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "ptx/observer.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {

constinit thread_local std::uint64_t inexact_seed = 0;

namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15U;
constexpr std::uint64_t kResidentBytes = std::uint64_t{2} << 30U;
constexpr std::uint32_t kLongestVisit = 64;  // turns
constexpr std::uint64_t kPatience =
    1U << 17U;  // warp instructions without any change before a livelock is looked for

}  // namespace

Executor::Executor(const Kernel& kernel_to_run, const LaunchShape& launch_shape,
                   std::span<const std::byte> parameter_bytes, const LaunchOptions& launch_options,
                   Observer* watcher, std::uint64_t grid_barrier_address)
    : program(*kernel_to_run.program),
      kernel(kernel_to_run),
      shape(launch_shape),
      options(launch_options),
      observer(watcher),
      parameters(parameter_bytes),
      grid_barrier(grid_barrier_address),
      hints_(program.operations.size(), nullptr),
      lines_(watcher != nullptr ? program.operations.size() : 0),
      patience_(kPatience) {
  for (int i = 0; i < 8; ++i) random();
  const Gpu& gpu = *shape.gpu;
  // As many blocks at once as the GPU would hold, but for blocks that would fill the host's memory.
  const std::uint64_t warp_bytes =
      program.frames[kernel.function].register_bytes + std::uint64_t{kernel.local_bytes} * kLanes;
  const std::uint64_t block_bytes = std::max<std::uint64_t>(shape.shared_bytes + warp_bytes * shape.warps, 1);
  std::uint64_t resident =
      std::uint64_t{blocks_per_sm(kernel, gpu, shape.threads, options.dynamic_shared)} * gpu.sms;
  if (!options.cooperative)
    resident = std::min(resident, std::max<std::uint64_t>(kResidentBytes / block_bytes, 1));
  blocks_.resize(std::min(shape.blocks, resident));
}

// xorshift128+
std::uint64_t Executor::random() {
  std::uint64_t x = state_[0];
  const std::uint64_t y = state_[1];
  state_[0] = y;
  x ^= x << 23U;
  state_[1] = x ^ y ^ (x >> 17U) ^ (y >> 26U);
  return state_[1] + y;
}

void Executor::fail(const Lanes& lanes, FindingKind kind, std::string_view what, std::uint32_t lane) const {
  throw Fault{finding_at(shape, kind, what, lanes.pc, lanes.block, lanes.warp, lane)};
}

// --- Blocks ---

// Blocks start in an order that is only roughly ascending.
std::uint64_t Executor::next_block_index() {
  constexpr std::size_t kWindow = 16;
  while (window_.size() < kWindow && next_index_ < shape.blocks) window_.push_back(next_index_++);
  const std::size_t at = random() % window_.size();
  const std::uint64_t index = window_[at];
  window_[at] = window_.back();
  window_.pop_back();
  return index;
}

void Executor::start_block(std::uint32_t slot, std::uint64_t index) {
  if (!blocks_[slot]) blocks_[slot] = std::make_unique<Block>();
  Block& block = *blocks_[slot];
  block.index = index;
  block.slot = slot;
  block.id[0] = static_cast<std::uint32_t>(index % shape.grid[0]);
  block.id[1] = static_cast<std::uint32_t>(index / shape.grid[0] % shape.grid[1]);
  block.id[2] = static_cast<std::uint32_t>(index / shape.grid[0] / shape.grid[1]);
  block.live_warps = shape.warps;
  block.shared.assign(shape.shared_bytes, kPoison);
  block.warps.resize(shape.warps);
  block.barriers = {};
  const Frame& frame = program.frames[kernel.function];
  for (std::uint32_t w = 0; w < shape.warps; ++w) {
    Warp& warp = block.warps[w];
    warp.block = &block;
    warp.index = w;
    const std::uint32_t lanes = std::min(kLanes, shape.threads - w * kLanes);
    warp.existing = lanes == kLanes ? ~0U : (1U << lanes) - 1;
    warp.exited = 0;
    warp.registers.assign(frame.register_bytes, kPoison);
    warp.rows = {{warp.registers.data(), const_cast<std::byte*>(program.constants.data())}};
    *warp.rows.at<std::uint32_t>(kTrue) = ~0U;
    for (const Frame& other : program.frames) {
      if (other.return_row != 0)
        std::memset(warp.rows.at<std::byte>(other.return_row), 0, std::size_t{kLanes} * 4);
    }
    warp.local.clear();
    warp.copies.clear();
    std::ranges::fill(warp.committed, 0U);
    warp.groups.clear();
    auto lanes_of_warp = std::make_unique<Lanes>();
    lanes_of_warp->block = static_cast<std::uint32_t>(index);
    lanes_of_warp->warp = w;
    lanes_of_warp->warp_in_grid = static_cast<std::uint32_t>(index * shape.warps + w);
    lanes_of_warp->mask = warp.existing;
    lanes_of_warp->pc = frame.entry;
    lanes_of_warp->time = clock_;
    lanes_of_warp->of = &warp;
    warp.groups.push_back(std::move(lanes_of_warp));
    warp.place = Warp::kNowhere;
    make_ready(*warp.groups[0]);
  }
}

void Executor::block_ended(Block& block) {
  ++ended_;
  if (next_index_ < shape.blocks || !window_.empty()) start_block(block.slot, next_block_index());
}

// --- Groups ---

void Executor::make_ready(Lanes& lanes) {
  lanes.state = Lanes::State::kReady;
  if (lanes.of->place != Warp::kNowhere) return;
  lanes.of->place = static_cast<std::uint32_t>(ready_.size());
  ready_.push_back(lanes.of);
}

Lanes& Executor::split(Lanes& lanes, std::uint32_t mask, std::uint32_t pc) {
  auto apart = std::make_unique<Lanes>(lanes);
  lanes.mask &= ~mask;
  apart->mask = mask;
  apart->pc = pc;
  apart->state = Lanes::State::kReady;
  Warp& warp = *lanes.of;
  warp.groups.push_back(std::move(apart));
  return *warp.groups.back();
}

void Executor::keep_only(Lanes& lanes, std::uint32_t mask) {
  if (lanes.mask != mask) split(lanes, lanes.mask & ~mask, lanes.pc + 1);
}

// The object lives until the turn is over: its caller may still hold it.
void Executor::remove(Lanes& lanes) {
  auto& groups = lanes.of->groups;
  const auto found = std::ranges::find(groups, &lanes, &std::unique_ptr<Lanes>::get);
  retired_.push_back(std::move(*found));
  *found = std::move(groups.back());
  groups.pop_back();
}

bool Executor::meet(Lanes& lanes, std::uint32_t members) {
  const std::uint32_t required = members & lanes.of->alive();
  for (std::size_t i = 0; i < lanes.of->groups.size() && (required & ~lanes.mask) != 0;) {
    Lanes& other = *lanes.of->groups[i];
    if (&other != &lanes && other.state == Lanes::State::kMeeting && other.pc == lanes.pc &&
        (other.mask & ~members) == 0) {
      lanes.mask |= other.mask;
      lanes.time = std::max(lanes.time, other.time);
      remove(other);
    } else {
      ++i;
    }
  }
  if ((required & ~lanes.mask) == 0) return true;
  lanes.state = Lanes::State::kMeeting;
  return false;
}

// Ready groups at the same place become one.
void Executor::join_equals(Warp& warp) {
  for (std::size_t i = 0; i < warp.groups.size(); ++i) {
    for (std::size_t j = i + 1; j < warp.groups.size();) {
      Lanes& a = *warp.groups[i];
      Lanes& b = *warp.groups[j];
      const bool ready = a.state == Lanes::State::kReady && b.state == Lanes::State::kReady;
      if (ready && a.pc == b.pc) {
        a.mask |= b.mask;
        a.time = std::max(a.time, b.time);
        remove(b);
      } else {
        ++j;
      }
    }
  }
}

void Executor::exit(Lanes& lanes, std::uint32_t mask) {
  Warp& warp = *lanes.of;
  for (const auto& copy : warp.copies) {
    if ((copy->waiting & mask) == 0) continue;
    fail(lanes, FindingKind::kCopyInFlight,
         fmt::format(
             "exit while the cp.async of {} is in flight: no cp.async.wait_all or wait_group came after it",
             place_text(shape, copy->pc, lanes.block, lanes.warp, first_lane(copy->waiting & mask))),
         first_lane(copy->waiting & mask));
  }
  if (observer != nullptr) observer->exit(lanes, mask);
  ++changes;
  warp.exited |= mask;
  lanes.mask &= ~mask;
  Block& block = *warp.block;
  if (lanes.mask == 0) {
    remove(lanes);
  }
  // Who waits for lanes of this warp looks again; so do barriers of the whole block.
  for (const auto& group : warp.groups) {
    if (group->state == Lanes::State::kMeeting) make_ready(*group);
  }
  if (warp.alive() == 0) --block.live_warps;
  if (block.live_warps == 0) return;
  for (std::uint32_t id = 0; id < block.barriers.size(); ++id) {
    const Barrier& barrier = block.barriers[id];
    if (barrier.arrived != 0 && reached(block, barrier) == barrier.expected) finish_barrier(block, id);
  }
}

// --- Barriers ---

// PTX ISA, "bar, barrier": a thread waits for all non-exited threads from its warp, then the whole warp has arrived. So of a warp
// that takes part, exited lanes and those that the block's last warp lacks count as here.
std::uint32_t Executor::reached(const Block& block, const Barrier& barrier) {
  std::uint32_t gone = 0;
  for (const Warp& warp : block.warps) {
    const std::uint32_t here = barrier.by[warp.index];
    if (here != 0 || !barrier.counted)
      gone += static_cast<std::uint32_t>(std::popcount((warp.exited | ~warp.existing) & ~here));
  }
  return barrier.arrived + gone;
}

void Executor::finish_barrier(Block& block, std::uint32_t id) {
  Barrier barrier = std::move(block.barriers[id]);
  block.barriers[id] = {};
  ++changes;
  ++counters_.barriers;
  for (Lanes* lanes : barrier.waiting) {
    const double before = lanes->time;
    if (observer != nullptr) {
      observer->barrier_leave(*lanes, id);
      lines_[lanes->pc].cycles += lanes->time - before;
    }
    const Operation& op = program.operations[lanes->pc];
    const Rows& rows = lanes->of->rows;
    const auto kind = static_cast<run::BarrierKind>(op.variant);
    if (kind == run::BarrierKind::kPopc) {
      auto* out = rows.at<std::uint32_t>(op.rows[0]);
      for (std::uint32_t i = 0; i < kLanes; ++i)
        out[i] = ((lanes->mask >> i) & 1U) != 0 ? barrier.ones : out[i];
    } else if (kind == run::BarrierKind::kAnd || kind == run::BarrierKind::kOr) {
      const bool holds = kind == run::BarrierKind::kAnd ? barrier.ones == barrier.votes : barrier.ones != 0;
      auto* word = rows.at<std::uint32_t>(op.rows[0]);
      *word = holds ? *word | lanes->mask : *word & ~lanes->mask;
    }
    ++lanes->pc;
    make_ready(*lanes);
  }
  for (Warp& warp : block.warps) {
    if (warp.groups.size() > 1) join_equals(warp);
  }
}

// --- The order of things ---

void Executor::run_group(Lanes& lanes, std::uint64_t budget) {
  const Operation* operations = program.operations.data();
  const Rows rows = lanes.of->rows;
  const std::uint64_t begin = counters_.warp_instructions;
  const bool watched = observer != nullptr;
  bool goes_on = true;
  while (goes_on && counters_.warp_instructions - begin < budget) {
    const std::uint32_t pc = lanes.pc;
    const Operation& op = operations[pc];
    const std::uint32_t guard = *rows.at<const std::uint32_t>(op.guard) ^ (op.guard_negated ? ~0U : 0U);
    const std::uint32_t mask = lanes.mask & guard;
    const double before = lanes.time;
    if (!op.hidden) {
      const auto n = static_cast<std::uint64_t>(mask == ~0U ? 32 : std::popcount(mask));
      ++counters_.warp_instructions;
      counters_.thread_instructions += n;
      if (watched) {
        lanes.time += 1;
        ++lines_[pc].executed;
        lines_[pc].lanes += n;
      }
    }
    if (op.row != nullptr) {
      if (mask != 0) op.row(op, rows, mask);
      ++lanes.pc;
    } else if (mask == 0) {
      ++lanes.pc;
    } else {
      goes_on = op.warp(*this, lanes, op, mask);
    }
    if (watched) lines_[pc].cycles += lanes.time - before;
  }
  clock_ += static_cast<double>(counters_.warp_instructions - begin) /
            static_cast<double>(std::max<std::size_t>(ready_.size(), 1));
}

// One of those that are ready. What a block has in memory is much, and its warps share it: so a visit to it may last for several
// turns, and three of four do. But while a warp polls, each turn is drawn from all: it must see what the others do step by step.
Warp& Executor::choose_warp(std::uint64_t dice) {
  if (visit_ != 0) {
    --visit_;
    const auto warps = static_cast<std::uint32_t>(visited_->warps.size());
    const auto first = static_cast<std::uint32_t>((dice & 0xffffffffU) * warps >> 32U);
    for (std::uint32_t i = 0; i < warps; ++i) {
      Warp& warp = visited_->warps[(first + i) % warps];
      if (warp.place != Warp::kNowhere) return warp;
    }
  }
  Warp& warp = *ready_[(dice & 0xffffffffU) * ready_.size() >> 32U];
  visited_ = warp.block;
  const auto dial = static_cast<std::uint32_t>(dice >> 48U);
  visit_ = polling_ == 0 && (dial & 3U) != 0 ? dial % kLongestVisit : 0;
  return warp;
}

// One warp's turn: one of its groups, for as long as the seed says.
void Executor::turn() {
  const std::uint64_t dice = random();
  Warp& warp = choose_warp(dice);
  polled = false;
  if (!warp.copies.empty()) advance_copies(warp);
  std::size_t chosen = (dice >> 32U) % warp.groups.size();
  while (warp.groups[chosen]->state != Lanes::State::kReady) chosen = (chosen + 1) % warp.groups.size();
  // Three turns of four are long, so that registers stay in the cache; the others are short.
  const std::uint64_t dial = dice >> 56U;
  run_group(*warp.groups[chosen], (dial & 3U) != 0 ? 256 + dial : 1 + (dial >> 2U) % 32);
  set_polling(warp, polled);
  if (polled) visit_ = 0;
  after_turn(warp);
}

void Executor::set_polling(Warp& warp, bool polls) {
  if (polls != warp.polls) polling_ += polls ? 1U : ~0U;
  warp.polls = polls;
}

// Takes the warp out of those that are ready if no lane of it can go on.
void Executor::after_turn(Warp& warp) {
  retired_.clear();
  const auto is_ready = [](const std::unique_ptr<Lanes>& lanes) {
    return lanes->state == Lanes::State::kReady;
  };
  if (std::ranges::any_of(warp.groups, is_ready)) return;
  ready_.back()->place = warp.place;
  ready_[warp.place] = ready_.back();
  ready_.pop_back();
  warp.place = Warp::kNowhere;
  set_polling(warp, false);
  if (warp.alive() != 0)
    check_stuck_warp(warp);
  else if (warp.block->live_warps == 0)
    block_ended(*warp.block);
}

void Executor::run(LaunchResult& result) {
  // Of the launch that this thread runs from here on.
  inexact_seed =
      options.vary_inexact ? std::max<std::uint64_t>((*options.vary_inexact + 1) * kGolden >> 16U, 1) : 0;
  try {
    for (std::uint32_t slot = 0; slot < blocks_.size(); ++slot) start_block(slot, next_block_index());
    while (!ready_.empty()) {
      turn();
      if (changes != changes_seen_) {
        changes_seen_ = changes;
        quiet_since_ = counters_.warp_instructions;
        patience_ = kPatience;
        clock_was_read = false;
      } else if (counters_.warp_instructions - quiet_since_ > patience_) {
        look_for_livelock();
      }
      if (options.max_warp_instructions != 0 && counters_.warp_instructions > options.max_warp_instructions) {
        const Lanes& some = *ready_[0]->groups[0];
        fail(some, FindingKind::kLimit,
             fmt::format("stopped after {} warp instructions", options.max_warp_instructions),
             first_lane(some.mask));
      }
    }
    if (ended_ != shape.blocks) report_deadlock();
    result.completed = true;
  } catch (const Fault& fault) {
    result.findings.push_back(fault.finding);
  }
  result.report.counters = counters_;
  result.report.lines = std::move(lines_);
}

}  // namespace sluice::ptx
