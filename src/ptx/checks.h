// What is said of a launch while it runs and after it: accesses, findings, counters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptx/gpu.h"
#include "ptx/lanes.h"
#include "ptx/memory.h"
#include "ptx/module.h"

namespace sluice::ptx {

enum class Order : std::uint8_t {
  kWeak,
  kRelaxed,
  kAcquire,
  kRelease,
  kAcquireRelease,
  kSequential,
  kVolatile
};
enum class Scope : std::uint8_t { kNone, kBlock, kCluster, kGpu, kSystem };
enum class AccessKind : std::uint8_t { kLoad, kLoadNonCoherent, kStore, kAtomic, kReduction };

// Who executes: a convergent group of lanes of one warp. Lanes of a warp that have diverged are groups of their own; a lane
// never changes its warp. The same object stays with the group from call to call.
struct Group {
  std::uint32_t block = 0;  // linear index in the grid
  std::uint32_t warp = 0;   // within the block
  std::uint32_t warp_in_grid = 0;
  std::uint32_t mask = 0;  // its lanes
  std::uint32_t pc = 0;    // the instruction in Code::lines that it executes
  // Virtual time in cycles of the SM's clock. The executor adds each instruction's issue cost; the observer moves it forward
  // (waits, latency). Groups that split keep it, groups that join take the latest.
  double time = 0;
};

// How the lanes' addresses lie, where that is known; else whoever wants to know looks at them.
enum class Pattern : std::uint8_t { kUnknown, kOneAddress, kContiguous };  // all 32 lanes, side by side

struct Access {
  Space space =
      Space::kGlobal;  // kGlobal, kShared, kLocal, kConst or kParam: generic addresses are resolved before
  AccessKind kind = AccessKind::kLoad;
  Order order = Order::kWeak;
  Scope scope = Scope::kNone;
  std::uint32_t size = 0;     // bytes per lane, a vector's as a whole; naturally aligned
  std::uint32_t element = 0;  // of them, those of one element of the vector; 0: the same
  std::uint32_t mask = 0;  // lanes that access: a subset of the group's (predicates, mixed generic addresses)
  // [32]. Device address in kGlobal, kConst, offset within the block's shared memory in kShared, within the lane's own
  // in kLocal, within the parameters in kParam.
  const std::uint64_t* addresses = nullptr;
  Pattern pattern = Pattern::kUnknown;
  std::uint32_t failed = 0;  // lanes whose atom.cas stored nothing: it only read

  bool is_load() const { return kind == AccessKind::kLoad || kind == AccessKind::kLoadNonCoherent; }
  bool is_atomic() const { return kind == AccessKind::kAtomic || kind == AccessKind::kReduction; }
};

// One cp.async of a warp: it reads `source` (global) and writes `destination` (shared) at any moment from now until it is
// complete. Lanes with less than `size` bytes of source read `source_size[lane]` of them; the rest is zeros.
struct AsyncCopy {
  std::uint64_t id = 0;  // unique in the launch, ascending
  std::uint32_t pc = 0;
  std::uint32_t size = 0;
  std::uint32_t mask = 0;
  std::uint64_t source[kLanes], destination[kLanes];
  std::uint32_t source_size[kLanes];
  Pattern source_pattern = Pattern::kUnknown, destination_pattern = Pattern::kUnknown;
};

enum class FindingKind : std::uint8_t {
  kRace,
  kNonCoherentRead,
  kUninitialised,
  kOutOfBounds,
  kMisaligned,
  kPartialBarrier,
  kAbsentLane,
  kCopyInFlight,
  kDeadlock,
  kLivelock,
  kTrap,
  kUnsupported,
  kLimit,
  kOther
};
std::string_view name_of(FindingKind kind);

// One fault. `message` is the whole line for the user: what happened, kernel, source line, PTX line, block, warp, lane.
struct Finding {
  FindingKind kind = FindingKind::kOther;
  std::string message;
  std::uint32_t pc = 0;  // index into Code::lines
  std::string file;      // CUDA source; empty without -lineinfo
  std::uint32_t line = 0;
  std::uint32_t ptx_line = 0;
  std::uint64_t block = 0;
  std::uint32_t warp = 0;
  std::uint32_t lane = 0;
  std::uint64_t count = 1;  // how often it happened at this place
};

// Where each executed operation comes from. Shared by all launches of a module.
struct CodeLine {
  std::uint32_t ptx_line = 0;
  SourceLine source;
  const Instruction* instruction = nullptr;  // as parsed
  std::uint32_t function = 0;                // index into Module::functions
};
struct Code {
  const Module* module = nullptr;
  std::vector<CodeLine> lines;  // by pc
};

struct LaunchShape {
  std::string kernel;
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t threads = 0;  // per block
  std::uint32_t warps = 0;    // per block
  std::uint64_t blocks = 0;
  std::uint32_t shared_bytes = 0;  // per block: static and dynamic
  const Gpu* gpu = nullptr;
  const Code* code = nullptr;
  std::span<const Allocation> allocations;  // sorted by address

  // The last allocation that begins at an address or before it: what holds it, if any does.
  const Allocation* allocation_before(std::uint64_t address) const;
};

// For messages: "1 block", "2 blocks".
std::string counted(std::uint64_t n, std::string_view thing);
// Where an instruction comes from: "file.cu:12", for a function that was inlined "file.cu:12, inlined at file.cu:40", and
// "PTX line 88" without -lineinfo.
std::string source_text(const Code& code, std::uint32_t pc);
// The place of a group's current instruction, for messages: "kernel k, file.cu:12 (PTX line 88), block 0, warp 1, lane 2".
std::string place_text(const LaunchShape& shape, std::uint32_t pc, std::uint32_t block, std::uint32_t warp,
                       std::uint32_t lane);
// A finding at such a place with `what` in front of it.
Finding finding_at(const LaunchShape& shape, FindingKind kind, std::string_view what, std::uint32_t pc,
                   std::uint32_t block, std::uint32_t warp, std::uint32_t lane);

// What a launch has to say beside its findings. The executor fills in the first group of counters, the observer the rest.
struct Counters {
  std::uint64_t warp_instructions = 0;
  std::uint64_t thread_instructions = 0;
  std::uint64_t barriers = 0;  // completed block barriers

  std::uint64_t global_requests = 0;  // warp instructions that access global memory
  std::uint64_t global_sectors = 0;   // of 32 bytes
  std::uint64_t global_sectors_ideal = 0;
  std::uint64_t shared_wavefronts = 0;
  std::uint64_t shared_wavefronts_ideal = 0;
  std::uint64_t atomics = 0;  // lanes
  std::uint64_t waits = 0;    // loads that saw a value again: polls
  struct Traffic {            // by allocation
    std::string name;
    std::uint64_t read = 0, written = 0;  // bytes
  };
  std::vector<Traffic> traffic;
};

// Virtual time and how often, by pc (Code::lines).
struct LineCost {
  std::uint64_t executed = 0;  // warp instructions
  std::uint64_t lanes = 0;     // thread instructions
  double cycles = 0;           // virtual time spent here by all groups, waits included
};

// One step of the longest chain of happens-before edges, from the launch to the last exit.
struct PathStep {
  double begin = 0, end = 0;  // cycles
  std::uint32_t pc = 0;       // where the step ends
  std::uint32_t block = 0, warp = 0;
  std::string what;  // "barrier", "acquire of counter+8", "exit"
};

struct LaunchReport {
  Counters counters;
  std::vector<LineCost> lines;
  std::vector<PathStep> critical_path;
  double cycles = 0;  // of the critical path
};

}  // namespace sluice::ptx
