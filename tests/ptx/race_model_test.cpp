// The race detector against the memory model itself: random executions, judged by the relations of the PTX ISA's "Memory
// Consistency Model" computed for every pair of operations, by its definitions and without clocks.
#include <algorithm>
#include <array>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/ptx/race_script.h"
#include "tests/support/seed.h"

namespace sluice::ptx {
namespace {

struct Thread {
  std::uint32_t block, warp, lane;
};
constexpr std::array<Thread, 5> kThreads = {{{0, 0, 0}, {0, 0, 7}, {0, 1, 3}, {1, 0, 0}, {1, 1, 31}}};

struct Operation {
  std::uint32_t thread = 0;
  bool fence = false, reads = false, writes = false, atomic = false, reduction = false;
  bool strong = false, acquires = false, releases = false;
  bool device = false;  // scope
  bool sequential = false;
  std::uint64_t lo = 0, hi = 0;
  std::optional<std::size_t> source;  // the operation whose write it reads; none: what was there before
};

// One execution, in the order in which it ran. Operations are numbered by it.
class Execution {
 public:
  explicit Execution(std::vector<Operation> operations)
      : ops_(std::move(operations)), causes_(ops_.size(), std::vector<bool>(ops_.size(), false)) {
    for (std::size_t y = 0; y < ops_.size(); ++y) {
      for (std::size_t x = 0; x < y; ++x) causes_[x][y] = program_order(x, y) || fence_sc_order(x, y);
    }
    for (std::size_t read = 0; read < ops_.size(); ++read) {
      if (ops_[read].fence || !ops_[read].reads || ops_[read].reduction) continue;
      for (const std::size_t write : observed(read)) synchronize(write, read);
    }
    for (std::size_t y = 0; y < ops_.size(); ++y) {  // transitive: all edges go forward
      for (std::size_t z = 0; z < y; ++z) {
        for (std::size_t x = 0; x < z && causes_[z][y]; ++x) {
          if (causes_[x][z]) causes_[x][y] = true;
        }
      }
    }
  }

  bool race(std::size_t x, std::size_t y) const {
    const Operation& a = ops_[x];
    const Operation& b = ops_[y];
    if (a.fence || b.fence || (!a.writes && !b.writes) || a.lo >= b.hi || b.lo >= a.hi) return false;
    return !morally_strong(x, y) && !in_causality_order(x, y);
  }

 private:
  bool program_order(std::size_t x, std::size_t y) const { return x < y && ops_[x].thread == ops_[y].thread; }

  bool fence_sc_order(std::size_t x, std::size_t y) const {
    return ops_[x].sequential && ops_[y].sequential && morally_strong(x, y);
  }

  bool morally_strong(std::size_t x, std::size_t y) const {
    const Operation& a = ops_[x];
    const Operation& b = ops_[y];
    if (!a.fence && !b.fence && (a.lo != b.lo || a.hi != b.hi)) return false;
    if (a.thread == b.thread) return true;
    const bool same_block = kThreads[a.thread].block == kThreads[b.thread].block;
    return a.strong && b.strong && (same_block || (a.device && b.device));
  }

  // The writes that precede a read in observation order.
  std::vector<std::size_t> observed(std::size_t read) const {
    std::vector<std::size_t> result;
    for (std::optional<std::size_t> at = read; at;) {
      const std::optional<std::size_t> write = ops_[*at].source;
      if (!write || !morally_strong(*write, *at)) break;
      result.push_back(*write);
      at = ops_[*write].atomic ? write : std::nullopt;
    }
    return result;
  }

  // Every release pattern that ends in the write with every acquire pattern that begins with the read.
  void synchronize(std::size_t write, std::size_t read) {
    for (std::size_t first = 0; first <= write; ++first) {
      const Operation& x = ops_[first];
      if (x.thread != ops_[write].thread || !x.releases || !ops_[write].strong) continue;
      if (!x.fence && (x.lo != ops_[write].lo || x.hi != ops_[write].hi)) continue;
      for (std::size_t last = read; last < ops_.size(); ++last) {
        const Operation& y = ops_[last];
        if (y.thread != ops_[read].thread || !y.acquires || !ops_[read].strong) continue;
        if (!y.fence && (y.lo != ops_[read].lo || y.hi != ops_[read].hi)) continue;
        if (first < last && morally_strong(first, last)) causes_[first][last] = true;
      }
    }
  }

  bool in_causality_order(std::size_t x, std::size_t y) const {
    if (causes_[x][y]) return true;
    for (std::size_t z = x + 1; z < y; ++z) {
      if (!causes_[z][y] || ops_[z].fence || !ops_[z].reads || ops_[z].reduction) continue;
      const std::vector<std::size_t> writes = observed(z);
      for (const std::size_t write : writes) {
        if (write == x || overwrites(write, x)) return true;
      }
    }
    return false;
  }

  // Beyond the letter: once a thread's strong write has been seen, its earlier ones to the same place can't be read any more, so
  // the detector keeps the last only.
  bool overwrites(std::size_t later, std::size_t earlier) const {
    const Operation& a = ops_[earlier];
    const Operation& b = ops_[later];
    return program_order(earlier, later) && a.writes && a.strong && a.lo == b.lo && a.hi == b.hi &&
           a.device == b.device;
  }

  std::vector<Operation> ops_;
  std::vector<std::vector<bool>> causes_;  // base causality order
};

class RandomExecution {
 public:
  explicit RandomExecution(std::mt19937& random) : random_(random) {
    const std::size_t length = 4 + below(16);
    for (std::size_t i = 0; i < length; ++i) step();
  }
  // The operations that race with an earlier one, by the model; and those for which the detector says so.
  std::set<std::size_t> expected() const {
    const Execution execution(operations_);
    std::set<std::size_t> result;
    for (std::size_t y = 0; y < operations_.size(); ++y) {
      for (std::size_t x = 0; x < y; ++x) {
        if (execution.race(x, y)) result.insert(y);
      }
    }
    return result;
  }
  std::string text() const {
    std::string result;
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const Operation& op = operations_[i];
      const Thread& thread = kThreads[op.thread];
      result += "\n" + std::to_string(i) + ": block " + std::to_string(thread.block) + " warp " +
                std::to_string(thread.warp) + " lane " + std::to_string(thread.lane) +
                (op.sequential  ? " fence.sc"
                 : op.fence     ? " fence"
                 : op.reduction ? " red"
                 : op.atomic    ? " atom"
                                : "") +
                (op.reads && !op.atomic    ? " ld"
                 : op.writes && !op.atomic ? " st"
                                           : "") +
                (op.acquires ? " acquire" : "") + (op.releases ? " release" : "") +
                (!op.strong  ? " weak"
                 : op.device ? " gpu"
                             : " cta");
      if (!op.fence) result += " [" + std::to_string(op.lo) + ", " + std::to_string(op.hi) + ")";
    }
    return result;
  }
  std::set<std::size_t> found() {
    std::set<std::size_t> result;
    for (const Finding& finding : script_.finish()) {
      if (finding.kind == FindingKind::kRace) result.insert(finding.pc - 1);
    }
    return result;
  }

 private:
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }

  void step() {
    Operation op;
    op.thread = below(kThreads.size());
    const Thread& thread = kThreads[op.thread];
    script_.lane(thread.block, thread.warp, thread.lane);
    op.device = below(20) != 0;
    const Scope scope = op.device ? Scope::kGpu : Scope::kBlock;
    if (below(6) == 0) {
      constexpr std::array<Order, 4> kOrders = {Order::kAcquireRelease, Order::kSequential, Order::kAcquire,
                                                Order::kRelease};
      const Order order = kOrders[below(4)];
      op.fence = op.strong = true;
      op.sequential = order == Order::kSequential;
      op.acquires = order != Order::kRelease;
      op.releases = order != Order::kAcquire;
      script_.fence(scope, order);
      operations_.push_back(op);
      return;
    }
    const bool flag = below(6) != 0;
    const std::uint32_t size = below(100) == 0 ? 2U : below(100) == 0 ? 8U : 4U;
    op.lo = flag ? below(2) * 8 : 64;
    op.hi = op.lo + size;
    op.strong = flag ? below(30) != 0 : below(8) == 0;
    AccessKind kind = below(flag ? 2 : 4) != 0 ? AccessKind::kLoad : AccessKind::kStore;
    Order order = Order::kWeak;
    if (op.strong) {
      if (below(3) == 0) kind = below(3) == 0 ? AccessKind::kReduction : AccessKind::kAtomic;
      op.atomic = kind == AccessKind::kAtomic || kind == AccessKind::kReduction;
      order = Order::kRelaxed;
      const bool strengthen = below(2) == 0;
      if (strengthen && op.atomic) {
        constexpr std::array<Order, 3> kOrders = {Order::kAcquire, Order::kRelease, Order::kAcquireRelease};
        order = kOrders[below(3)];
      } else if (strengthen) {
        order = kind == AccessKind::kLoad ? Order::kAcquire : Order::kRelease;
      }
    }
    op.reads = kind != AccessKind::kStore;
    op.writes = kind != AccessKind::kLoad;
    op.reduction = kind == AccessKind::kReduction;
    op.acquires = op.reads && !op.reduction && (order == Order::kAcquire || order == Order::kAcquireRelease);
    op.releases = op.writes && (order == Order::kRelease || order == Order::kAcquireRelease);
    if (!op.strong) op.device = false;
    for (std::size_t i = operations_.size(); op.reads && i-- > 0 && !op.source;) {
      const Operation& other = operations_[i];
      if (other.writes && other.lo < op.hi && op.lo < other.hi) op.source = i;
    }
    script_.access(kind, order, scope, reinterpret_cast<std::uint64_t>(memory_.data()) + op.lo, size, 0,
                   Space::kGlobal);
    operations_.push_back(op);
  }

  std::mt19937& random_;
  alignas(512) std::array<std::byte, 512> memory_{};
  RaceScript script_;
  std::vector<Operation> operations_;
};

// What follows a race is undefined, so the first one counts: the detector must find it, and nothing that is none.
TEST(RaceModel, DetectorAgreesOnRandomExecutions) {
  std::mt19937 random(static_cast<std::uint32_t>(test::seed_of_test()));
  std::size_t racy = 0;
  constexpr std::size_t kExecutions = 20000;
  for (std::size_t i = 0; i < kExecutions; ++i) {
    RandomExecution execution(random);
    const std::set<std::size_t> expected = execution.expected();
    const std::set<std::size_t> found = execution.found();
    if (expected.empty()) {
      ASSERT_TRUE(found.empty()) << "execution " << i << ": step " << *found.begin() << " doesn't race"
                                 << execution.text();
      continue;
    }
    ++racy;
    ASSERT_FALSE(found.empty()) << "execution " << i << ": step " << *expected.begin() << " races"
                                << execution.text();
    ASSERT_EQ(*found.begin(), *expected.begin()) << "execution " << i << execution.text();
  }
  EXPECT_GT(racy, kExecutions / 4);
  EXPECT_LT(racy, kExecutions * 3 / 4);
}

}  // namespace
}  // namespace sluice::ptx
