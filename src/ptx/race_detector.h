// A happens-before race detector for the PTX memory model (PTX ISA, "Memory Consistency Model"), over global and shared memory.
//
// Two accesses that overlap, one of them a write, race unless causality orders them or they are morally strong: both with an
// order, of the same bytes, and with scopes that include each other. Lanes are threads like any others: what orders them is
// bar.warp.sync, bar/barrier, releases that an acquire reads from, directly, through fences or through a chain of atomic
// operations, and the order in which fence.sc operations run. Shuffles, votes and running in step order nothing.
//
// It judges one run, and finds what that run's order doesn't rule out; other seeds make other runs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <tuple>
#include <vector>

#include "ptx/checks.h"
#include "ptx/race_shadow.h"
#include "ptx/race_threads.h"

namespace sluice::ptx {

class RaceDetector : public RaceThreads {
 public:
  // Throws Error if the launch has more warps than the detector can tell apart.
  explicit RaceDetector(const LaunchShape& shape);

  void access(const Group& group, const Access& access);
  // Looks at the bytes of global memory that lanes are about to read: nothing may have written them.
  void check_poison(const Group& group, std::uint32_t mask, std::uint32_t size,
                    const std::uint64_t* addresses);
  // The copy stays where it is until it is complete.
  void copy_issued(const Group& group, const AsyncCopy& copy);
  // True if all lanes have waited for it now.
  bool copy_complete(const Group& group, std::uint64_t id, std::uint32_t mask);
  void exit(const Group& group, std::uint32_t mask);

  std::vector<Finding>& findings() { return findings_; }

 private:
  // One instruction of a group, as the checks need it.
  struct Actor {
    RaceWarp& warp;
    const Knowledge& knowledge;  // the warp's, or what it was when a copy was issued
    RaceShadow& shadow;
    Space space;
    std::uint32_t pc;
    std::uint32_t time;  // of its stamps
    std::string_view verb;
    bool non_coherent = false;
  };
  // One strong access of one lane to one location.
  struct StrongOp {
    std::uint32_t lane;
    std::uint64_t address;
    std::uint32_t size;
    bool reads, writes, reduction;
    bool acquires, releases;
    bool narrow;
    std::uint32_t shape() const { return strong_shape(address, size); }
  };
  RaceShadow& shadow_of(Space space, std::uint32_t block);

  void read(const Actor& actor, Page& page, const Segment& segment, bool alone);
  void check_read(const Actor& actor, Page& page, const Segment& segment);
  void write(const Actor& actor, Page& page, const Segment& segment);
  void check_last_write(const Actor& actor, const Cell& cell, std::uint32_t lanes);
  void check_strong(const Actor& actor, const Cell& cell, std::uint32_t lanes, bool writes);
  void read_source(const Actor& reader, const AsyncCopy& copy, std::uint32_t mask);

  // race_records.cpp
  static void record(const Actor& actor, Page& page, const Segment& segment, ReadRecord& record);
  static void record_in_cells(const Actor& actor, Page& page, const ReadRecord& read);
  static void add_read(const Actor& actor, Cell& cell, std::uint32_t lanes, const ReadRecord& read);
  void check_reads(const Actor& actor, Page& page, const Segment& segment, bool forget);
  void check_record(const Actor& actor, const Segment& segment, std::uint32_t lo, std::uint32_t hi,
                    std::uint32_t warp, const ReadRecord& record);
  void check_cell_reads(const Actor& actor, const Cell& cell, std::uint32_t lanes);

  // race_strong.cpp
  void strong(const Access& access, const Actor& actor);
  void strong_lane(const Actor& actor, const StrongOp& op);
  void check_against_strong(const Actor& actor, StrongSet& set, const StrongOp& op);
  bool same_block(const RaceWarp& warp, std::uint32_t other_warp) const {
    return other_warp / shape_.warps == warp.block;
  }
  bool linked(const RaceWarp& warp, const StrongSet& set, const StrongOp& op) const;
  void acquire(RaceWarp& warp, const StrongSet& set, const StrongOp& op) const;
  static void release(RaceWarp& warp, StrongSet& set, const StrongOp& op);

  // Finds a race of these lanes with another access, unless all of them know of it.
  void judge(const Actor& actor, std::uint32_t lanes, std::string_view other_verb, const Stamp& other,
             std::string_view why);
  // The same for one with an order, by lanes of another warp.
  void judge_strong(const Actor& actor, std::uint32_t lanes, StrongSet& set, std::uint32_t other_warp,
                    const StrongAccess& other, std::string_view why);
  void race(const Actor& actor, std::uint32_t lane, std::string_view other_verb, const Stamp& other,
            std::string_view why);
  void uninitialised(const Actor& actor, std::uint32_t lanes);
  void non_coherent(std::uint32_t pc, std::uint32_t thread, std::uint32_t other_pc);
  void report(FindingKind kind, std::uint32_t pc, std::uint32_t thread, std::uint32_t other_pc,
              std::string_view what);

  const LaunchShape& shape_;
  RaceShadow global_;
  std::vector<std::unique_ptr<RaceShadow>> shared_;  // by block
  std::vector<std::uint32_t> exited_;                // threads of each block
  std::vector<Finding> findings_;
  std::map<std::tuple<FindingKind, std::uint32_t, std::uint32_t>, std::size_t>
      found_;  // by kind and both instructions
};

}  // namespace sluice::ptx
