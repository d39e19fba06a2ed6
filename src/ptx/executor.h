// One launch while it runs: blocks, warps, groups of lanes, and the order in which they go on.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/aligned_allocator.h"
#include "ptx/program.h"

namespace sluice::ptx {

// A fault of the kernel's: ends the launch.
struct Fault {
  Finding finding;
};

struct Warp;

// Lanes of a warp that are at the same place.
struct Lanes : Group {
  enum class State : std::uint8_t { kReady, kMeeting, kInBarrier };
  Warp* of = nullptr;
  State state = State::kReady;
};

// A cp.async that has not been waited for by all its lanes.
struct PendingCopy : AsyncCopy {
  std::uint32_t waiting = 0;  // lanes that have yet to wait
  bool read = false, written = false;
  std::uint32_t group[kLanes];  // which of the lane's commit groups it belongs to
  std::array<std::byte, 16> data[kLanes];
};

struct Block;

struct Warp {
  Block* block = nullptr;
  std::uint32_t index = 0;
  std::uint32_t existing = 0;  // lanes
  std::uint32_t exited = 0;
  Rows rows = {};
  std::vector<std::byte, AlignedAllocator<std::byte>> registers;
  std::vector<std::byte> local;  // of lane 0, of lane 1, …
  std::vector<std::unique_ptr<Lanes>> groups;
  std::vector<std::unique_ptr<PendingCopy>> copies;
  std::uint32_t committed[kLanes] = {};  // commit groups of each lane so far
  std::uint32_t place = kNowhere;        // in Executor::ready_
  bool polls = false;                    // in its last turn

  static constexpr std::uint32_t kNowhere = ~std::uint32_t{0};
  std::uint32_t alive() const { return existing & ~exited; }
};

struct Barrier {
  std::uint32_t expected = 0;  // lanes of its warps, those that the block's last warp lacks included
  bool counted = false;        // somebody gave the number: then not all warps need come
  std::uint32_t arrived = 0;   // 0: nobody is here
  std::array<std::uint32_t, kLanes> by = {};  // which lanes of each warp
  std::vector<Lanes*> waiting;
  std::uint32_t ones = 0, votes = 0;  // of bar.red
};

struct Block {
  std::uint64_t index = 0;
  std::uint32_t id[3] = {};
  std::uint32_t slot = 0;
  std::uint32_t live_warps = 0;
  std::vector<std::byte, AlignedAllocator<std::byte>> shared;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
};

class Observer;

class Executor {
 public:
  Executor(const Kernel& kernel_to_run, const LaunchShape& launch_shape,
           std::span<const std::byte> parameter_bytes, const LaunchOptions& launch_options, Observer* watcher,
           std::uint64_t grid_barrier_address);

  // To the end or the first fault.
  void run(LaunchResult& result);

  // --- For the operations (warp_functions.h) ---
  [[noreturn]] void fail(const Lanes& lanes, FindingKind kind, std::string_view what,
                         std::uint32_t lane) const;
  // What a group does of its own: the rest of its lanes go on after this instruction.
  static void keep_only(Lanes& lanes, std::uint32_t mask);
  static Lanes& split(Lanes& lanes, std::uint32_t mask, std::uint32_t pc);
  void remove(Lanes& lanes);
  // True if all living lanes of `members` are in the group now; else it waits for them here.
  bool meet(Lanes& lanes, std::uint32_t members);
  void make_ready(Lanes& lanes);
  void join_equals(Warp& warp);
  void finish_barrier(Block& block, std::uint32_t id);
  // How many lanes are there, or will never come.
  static std::uint32_t reached(const Block& block, const Barrier& barrier);
  void exit(Lanes& lanes, std::uint32_t mask);
  // A warp's local memory, poison until it is written. Most warps never use theirs, so that it is made at its first use.
  std::byte* local(Warp& warp) const;
  // Faults if an access leaves its space or is misaligned.
  void check(const Lanes& lanes, Space space, const std::uint64_t* addresses, const AddressSummary& summary,
             std::uint32_t mask, std::uint32_t size, std::uint32_t align, bool writes);
  // Where a space's address 0 is on the host.
  std::byte* base(const Lanes& lanes, Space space) const;
  void land(const Warp& warp, PendingCopy& copy, bool read, bool write);
  std::uint64_t random();
  double now() const { return clock_; }

  const Program& program;
  const Kernel& kernel;
  const LaunchShape& shape;
  const LaunchOptions& options;
  Observer* observer;
  std::span<const std::byte> parameters;
  std::uint64_t grid_barrier;
  std::uint64_t next_copy = 1;
  std::vector<std::unique_ptr<PendingCopy>> landed;  // copies' room, to be used again
  std::uint64_t changes = 0;                         // of memory, barriers, exits: what others may wait for
  bool polled = false;                               // an access that others may answer to: it's their turn
  bool clock_was_read = false;                       // since the last change

 private:
  void start_block(std::uint32_t slot, std::uint64_t index);
  std::uint64_t next_block_index();
  Warp& choose_warp(std::uint64_t dice);
  void turn();
  void after_turn(Warp& warp);
  void set_polling(Warp& warp, bool polls);
  void run_group(Lanes& lanes, std::uint64_t budget);
  void advance_copies(Warp& warp);
  void block_ended(Block& block);
  void check_stuck_warp(Warp& warp);
  void look_for_livelock();
  bool recurs(Lanes& lanes);
  [[noreturn]] void report_deadlock();

  std::vector<std::unique_ptr<Block>> blocks_;  // by slot
  std::vector<Warp*> ready_;
  Block* visited_ = nullptr;  // whose warps have their turns now, for so many more of them
  std::uint32_t visit_ = 0;
  std::uint32_t polling_ = 0;  // ready warps that polled in their last turn
  std::vector<std::unique_ptr<Lanes>> retired_;
  std::vector<std::uint64_t> window_;  // of block indices that may start next
  std::uint64_t next_index_ = 0;
  std::uint64_t ended_ = 0;
  std::vector<const Allocation*> hints_;  // by pc: where its last access went
  std::vector<LineCost> lines_;
  Counters counters_;
  std::uint64_t state_[2] = {options.seed * 2 + 1, 0x9e3779b97f4a7c15U};  // of random()
  double clock_ = 0;                                                      // cycles
  std::uint64_t quiet_since_ = 0;  // warp instructions at the last change
  std::uint64_t changes_seen_ = 0;
  std::uint64_t patience_ = 0;
  double skip_ = 0;
};

}  // namespace sluice::ptx
