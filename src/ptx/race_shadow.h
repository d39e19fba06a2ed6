// What the race detector remembers of memory: for each byte who wrote it last and who has read it since.
//
// Memory is cut into pages of 512 bytes. Reads by neighbouring lanes, which is how weights and activations are read, are
// remembered as one record for each warp and run of bytes; everything else in cells of 16 bytes, or of fewer once something
// narrower was accessed there.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ptx/checks.h"
#include "ptx/lanes.h"
#include "ptx/race_threads.h"

namespace sluice::ptx {

inline constexpr std::uint32_t kPageBytes = 512;
// A copy in flight writes at a time that nobody knows, not even the lane that issued it.
inline constexpr std::uint32_t kInFlight = ~std::uint32_t{0};

// One access by lanes of one warp. `Set` keeps them by warp.
struct LaneAccess {
  std::uint32_t mask = 0, time = 0, pc = 0;
  bool same_as(const LaneAccess& other) const { return time == other.time; }
};

// An access with an order (strong, in the memory model's terms). Writes have a place among those of their location; `write` is 0
// for a load.
struct StrongAccess : LaneAccess {
  std::uint32_t write = 0;
  bool same_as(const StrongAccess& other) const { return time == other.time && write == other.write; }
};

// Which writes of a location a thread has seen, and when: all from one to another. The last few times suffice.
struct Seen {
  struct Range {
    std::uint32_t time = 0, from = 0, to = 0;
  };
  std::array<Range, 8> ranges;
  std::uint32_t used = 0;  // as a ring

  void add(const Range& range) {
    Range& last = ranges[(used - 1) % ranges.size()];
    if (used != 0 && last.time == range.time && last.from == range.from) {
      last.to = range.to;
    } else {
      ranges[used++ % ranges.size()] = range;
    }
  }
};

// The latest access of every lane, by a key that the user makes of its warp.
template <typename Access>
class AccessSet {
 public:
  // `synced`: up to when the warp's lanes know of each other, so that a later access of one stands for all of them.
  void add(std::uint32_t key, const Access& access, std::uint32_t synced) {
    const auto [latest, added] = latest_.find_or_add(key);
    if (!added && latest.same_as(access)) {
      latest.mask |= access.mask;
      latest.pc = access.pc;
      return;
    }
    if (!added && access.time < latest.time) {  // it was kept elsewhere until now
      Access older = access;
      older.mask &= ~latest.mask;
      if (older.mask != 0 && older.time > synced) older_.emplace_back(key, older);
      return;
    }
    if (!added && latest.time > synced) set_aside(key, latest, access.mask);
    latest = access;
  }
  void clear() {
    latest_.clear();
    older_.clear();
  }
  // Calls visit(key, access) for each.
  template <typename Visit>
  void for_each(Visit visit) {
    for (const auto& [key, access] : latest_) visit(key, access);
    for (const auto& [key, access] : older_) visit(key, access);
  }

 private:
  void set_aside(std::uint32_t key, Access access, std::uint32_t superseded) {
    for (auto& [older_key, older] : older_) {
      if (older_key == key) older.mask &= ~(superseded | access.mask);
    }
    std::erase_if(older_, [](const auto& older) { return older.second.mask == 0; });
    access.mask &= ~superseded;
    if (access.mask != 0) older_.emplace_back(key, access);
  }

  Table<Access> latest_;
  std::vector<std::pair<std::uint32_t, Access>> older_;
};

// What threads of one block released, for an acquire whose scope is their block.
struct BlockRelease {
  std::uint32_t block = 0;
  ClockRef known;
};

// A thread's own release operations at a location, which its later strong writes there go on with.
struct OwnRelease {
  std::uint32_t shape = 0;  // see strong_shape()
  ClockRef block, device;   // by scope
};

// A location that is accessed with an order: by whom, and what an acquire there would learn.
struct StrongSet {
  AccessSet<StrongAccess> accesses;  // by strong_key()
  Table<Seen> seen;                  // by thread
  bool narrow = false;               // some access had the block as its scope
  static constexpr std::uint32_t kNoShape = ~std::uint32_t{0};
  std::uint32_t shape = kNoShape;  // of the last access
  bool mixed = false;              // not all are of that shape

  // The last write, the first of the chain of atomic operations that it ends, and who did it. Writes are counted from 1.
  std::uint32_t last_write = 0, chain_from = 0;
  std::uint32_t writer = 0, writer_shape = 0;
  bool writer_narrow = false;
  std::vector<BlockRelease> blocks;  // what the chain carries, of each block
  ClockRef device;                   // and what of it is for all
  Table<OwnRelease> own;             // by thread

  // A plain write came after all of it.
  void forget() {
    StrongSet fresh;
    fresh.last_write = last_write + 1;
    fresh.own = std::move(own);
    *this = std::move(fresh);
  }
};

// An access's place within 16 bytes and its size: two strong accesses of different shapes overlap only in part.
constexpr std::uint32_t strong_shape(std::uint64_t address, std::uint32_t size) {
  return static_cast<std::uint32_t>(address & 15U) << 3U | static_cast<std::uint32_t>(std::countr_zero(size));
}
// What the set of strong accesses is kept by. There is room for 2^23 warps.
constexpr std::uint32_t strong_key(std::uint32_t warp, std::uint32_t shape, bool write, bool narrow) {
  return warp << 9U | shape << 2U | static_cast<std::uint32_t>(write) << 1U |
         static_cast<std::uint32_t>(narrow);
}

struct Cell {
  Stamp write, read;
  Stamp non_coherent;                            // the last read by ld.global.nc
  bool many = false;                             // reads are in `reads`, not in `read`
  std::unique_ptr<AccessSet<LaneAccess>> reads;  // made when needed, as `strong` is
  std::unique_ptr<StrongSet> strong;

  bool is_written() const { return write.time != 0 || (strong && strong->last_write != 0); }
  StrongSet& make_strong() {
    if (!strong) strong = std::make_unique<StrongSet>();
    return *strong;
  }
  // Turns the single read into a set of them.
  void make_reads();
  // A plain write came after all that was done here.
  void overwrite(const Stamp& stamp) {
    if (many) reads->clear();
    many = false;
    if (strong) strong->forget();
    read = {};
    write = stamp;
  }
};

// Part of a page, and which lanes access which of its bytes: all lanes of the mask everything, or each its own 1 << shift bytes,
// which begin 1 << gap bytes after those of the lane before.
struct Segment {
  static constexpr std::uint8_t kEveryLane = 0xff;
  std::uint32_t lo = 0, hi = 0;  // bytes of the page
  std::uint32_t mask = 0;
  std::uint8_t shift = kEveryLane;
  std::uint8_t gap = 0;
  std::uint8_t phase = 0;  // where a lane's bytes lie among 1 << gap, in units of 1 << shift
  std::uint8_t rotation = 0;

  // Lanes from `lane` on have a part each, the first at lo.
  void deal(std::uint32_t log2_bytes, std::uint32_t log2_stride, std::uint32_t lane) {
    shift = static_cast<std::uint8_t>(log2_bytes);
    gap = static_cast<std::uint8_t>(log2_stride);
    phase = phase_at(lo);
    rotation = static_cast<std::uint8_t>((lane - (lo >> gap)) & 31U);
  }
  // None where there is a gap.
  std::uint32_t lanes_at(std::uint32_t byte) const {
    if (shift == kEveryLane) return mask;
    return phase_at(byte) == phase ? 1U << (((byte >> gap) + rotation) & 31U) : 0U;
  }
  std::uint32_t bytes() const { return hi > lo ? hi - lo : 0; }
  bool has_gaps() const { return shift != kEveryLane && gap != shift; }
  bool deals_like(const Segment& other) const {
    return shift == other.shift && gap == other.gap && phase == other.phase && rotation == other.rotation;
  }

 private:
  std::uint8_t phase_at(std::uint32_t byte) const {
    return static_cast<std::uint8_t>((byte & ((1U << gap) - 1U)) >> shift);
  }
};

// Reads of one warp. It has a record for each 64 bytes of a page, of what begins there; what lies between the parts of another
// has its own.
constexpr std::uint32_t read_key(std::uint32_t warp, const Segment& segment) {
  return warp << 3U | (((segment.lo >> 6U) + segment.phase) & 7U);
}
constexpr std::uint32_t read_warp(std::uint32_t key) {
  return key >> 3U;
}
struct ReadRecord {
  Segment segment;
  std::uint32_t time = 0, pc = 0;
  bool checked = false;  // nothing has been written there since
  bool non_coherent = false;
};

struct Cells {
  explicit Cells(std::uint32_t log2_bytes) : shift(log2_bytes), cells(kPageBytes >> log2_bytes) {}
  void refine(std::uint32_t log2_bytes);

  std::uint32_t shift;   // log2 of a cell's bytes
  bool written = false;  // some cell has a write, or a strong access
  std::vector<Cell> cells;
};

struct Page {
  std::unique_ptr<Cells> cells;
  Table<ReadRecord> reads;  // by read_key()

  // The cells, fine enough for the segment.
  Cells& cells_for(const Segment& segment);
};

// A part of one page that an instruction touches.
struct Touched {
  Page* page = nullptr;
  Segment segment;
};

// One memory: the device's, or one block's shared memory.
class RaceShadow {
 public:
  Page& page(std::uint64_t address) {
    const std::uint64_t number = address / kPageBytes / kChunkPages;
    if (number != last_number_ || last_ == nullptr) find_chunk(number);
    return last_[address / kPageBytes % kChunkPages];
  }
  // What lanes touch that access `size` bytes each, naturally aligned: neighbours together, with gaps between them if that is
  // wanted, else runs of lanes at one address. Valid until the next call.
  std::span<const Touched> cut(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses,
                               Pattern pattern, bool gaps = false);

 private:
  static constexpr std::uint64_t kChunkPages = 256;
  void find_chunk(std::uint64_t number);
  std::span<const Touched> cut_neighbours(std::uint32_t mask, std::uint32_t size, std::uint64_t begin,
                                          std::uint64_t stride);

  std::unordered_map<std::uint64_t, std::unique_ptr<Page[]>> chunks_;
  std::uint64_t last_number_ = 0;
  Page* last_ = nullptr;
  std::array<Touched, 33> touched_;
};

}  // namespace sluice::ptx
