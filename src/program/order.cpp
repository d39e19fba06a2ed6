#include "program/order.h"

#include <random>
#include <span>

#include "base/error.h"

namespace sluice::program {
namespace {

enum class Taste : std::uint8_t { kAny, kLast, kStarveOp, kKeepRows };
constexpr std::uint64_t kTastes = 4;

class Scheduler {
 public:
  Scheduler(const Program& program, std::uint64_t seed)
      : program_(program),
        random_(seed),
        taste_(static_cast<Taste>(seed % kTastes)),
        reached_(program.counters.size()),
        waiting_(program.counters.size()),
        n_unmet_(program.tasks.size()) {
    for (std::uint32_t task = 0; task < program.tasks.size(); ++task) {
      for (const Wait& wait : waits_of(task)) {
        if (wait.previous_step || wait.target == 0) continue;
        ++n_unmet_[task];
        waiting_[wait.counter].push_back({task, wait.target});
      }
      if (n_unmet_[task] == 0) ready_.push_back(task);
    }
    starved_op_ = static_cast<std::uint32_t>(random_() % program.ops.size());
  }

  std::vector<std::uint32_t> run() {
    std::vector<std::uint32_t> order;
    order.reserve(program_.tasks.size());
    while (order.size() < program_.tasks.size()) {
      SLUICE_CHECK(!ready_.empty());
      const std::size_t at = pick();
      order.push_back(ready_[at]);
      ready_[at] = ready_.back();
      ready_.pop_back();
      finish(order.back());
    }
    return order;
  }

 private:
  struct Waiting {
    std::uint32_t task = 0;
    std::uint32_t target = 0;
  };

  std::span<const Wait> waits_of(std::uint32_t task) const {
    return std::span(program_.waits).subspan(program_.tasks[task].first_wait, program_.tasks[task].n_waits);
  }

  std::size_t pick() {
    std::size_t best = random_() % ready_.size();
    if (taste_ == Taste::kAny) return best;
    for (std::size_t i = 0; i < ready_.size(); ++i)
      if (is_better(program_.tasks[ready_[i]], ready_[i], program_.tasks[ready_[best]], ready_[best]))
        best = i;
    return best;
  }

  bool is_better(const Task& a, std::uint32_t index_a, const Task& b, std::uint32_t index_b) const {
    switch (taste_) {
      case Taste::kLast:
        return index_a > index_b;
      case Taste::kStarveOp:
        return a.op != starved_op_ && b.op == starved_op_;
      case Taste::kKeepRows:
        return a.rows > b.rows;
      case Taste::kAny:
        break;
    }
    return false;
  }

  void finish(std::uint32_t task) {
    const std::uint32_t counter = program_.tasks[task].signal;
    const std::uint32_t seen = ++reached_[counter];
    for (const Waiting& waiting : waiting_[counter])
      if (waiting.target == seen && --n_unmet_[waiting.task] == 0) ready_.push_back(waiting.task);
  }

  const Program& program_;
  std::mt19937_64 random_;
  Taste taste_;
  std::uint32_t starved_op_ = 0;
  std::vector<std::uint32_t> reached_;         // [counters]
  std::vector<std::vector<Waiting>> waiting_;  // [counters]
  std::vector<std::uint32_t> n_unmet_;         // [tasks]  waits
  std::vector<std::uint32_t> ready_;
};

}  // namespace

std::vector<std::uint32_t> adversarial_order(const Program& program, std::uint64_t seed) {
  return Scheduler(program, seed).run();
}

}  // namespace sluice::program
