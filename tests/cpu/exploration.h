// All executions of a few lines of protocol, run by three threads under weak_memory.h, as a graph of states.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/cpu/weak_memory.h"

namespace sluice::test {

// What can be weakened.
struct Protocol {
  Order bump = Order::kRelease;
  Order wait = Order::kAcquire;
  Order publish = Order::kRelease;
  bool ticket_is_update = true;  // else a load, then a store
  bool bump_is_update = true;
  bool asleep_is_update = true;   // the setting of the bit
  bool publish_is_update = true;  // else a load, then a store
  bool kernel_compares = true;
  bool wakes = true;

  // What a worker does with tasks: Executor::work.
  bool looks_ahead = false;  // it has its next task in hand while it computes one
  bool joins_bumps = false;  // tasks one after the other that bump the same word: one bump for all
  bool shared_out = false;   // every third task to each, instead of tickets
  bool oldest_first = true;  // of the two tasks in hand
  bool joins_same_only = true;
  bool joins_when_done = true;  // else the first bump counts the next task, too
  bool wakes_by_joined_total =
      true;  // the last bump is the one that makes the total, not that adds one to it
};

struct Instruction {
  enum Kind : std::uint8_t {
    kTake,     // the next task's number from the ticket `where`, or halt if there is none
    kNext,     // end of a task
    kRead,     // datum `where` must hold `value`
    kWrite,    // `value` to datum `where`
    kWait,     // until the word `where` counts `value`
    kBump,     // the word `where`, whose total is `value`
    kPublish,  // `value` to the word `where`
    kReset,    // the word `where` to zero
    kHalt,
  };
  Kind kind = kHalt;
  std::uint8_t where = 0;
  std::uint8_t value = 0;
  bool operator==(const Instruction&) const = default;
};
using Code = std::vector<Instruction>;

struct System {
  std::array<Code, WeakMemory::kThreads> threads;
  std::vector<Code> tasks;  // what threads take by tickets, after their code
  Protocol protocol;
};

// All executions of a system, as a graph of states.
class Exploration {
 public:
  static constexpr std::uint8_t kTicket = 0;  // the word of tickets; counters are 1, 2, 3

  explicit Exploration(const System& system) : protocol_(system.protocol) {
    for (std::size_t i = 0; i < kThreads; ++i) {
      if (i > 0 && system.threads[i] == system.threads[i - 1]) {
        first_[i] = first_[i - 1];
        continue;
      }
      first_[i] = static_cast<std::uint8_t>(code_.size());
      append(system.threads[i]);
      if (!system.tasks.empty()) code_.push_back({Instruction::kTake, kTicket, 0});
      code_.push_back({Instruction::kHalt, 0, 0});
    }
    for (const Code& task : system.tasks) {
      tasks_.push_back(static_cast<std::uint8_t>(code_.size()));
      append(task);
      code_.push_back({Instruction::kNext, 0, 0});
    }
  }

  // The first thing that goes wrong in some execution, or nothing.
  std::string run() {
    State start;
    for (std::size_t i = 0; i < kThreads; ++i) {
      start.threads[i].at = first_[i];
      run_local(start, i);
    }
    visit(start);
    while (!open_.empty() && problem_.empty()) {
      const auto [state, id] = open_.back();
      open_.pop_back();
      from_ = id;
      if (is_final(state)) final_.push_back(id);
      for (std::size_t thread = 0; thread < kThreads; ++thread) step(state, thread);
    }
    return problem_.empty() ? find_stuck() : problem_;
  }

  std::size_t n_states() const { return ids_.size(); }
  std::size_t n_transitions() const { return edges_.size(); }

 private:
  static constexpr std::size_t kThreads = WeakMemory::kThreads;
  static constexpr std::uint8_t kNothing = 0xFF;
  static constexpr std::uint8_t kAsleep = 0x80;  // the bit of a word that says that somebody sleeps on it

  enum Step : std::uint8_t { kStart, kStore, kFlagStore, kCompare, kSlumber, kLook, kWake };
  struct Thread {
    std::uint8_t at = 0;  // in code_
    Step step = kStart;
    std::uint8_t seen = 0;
    std::uint8_t held = kNothing;  // the next task, of a worker that looks ahead
    std::uint8_t done = 0;         // tasks whose bumps it owes
    bool operator==(const Thread&) const = default;
  };
  struct State {
    WeakMemory memory;
    std::array<Thread, kThreads> threads;
  };
  static_assert(std::has_unique_object_representations_v<WeakMemory>);

  void append(const Code& code) { code_.insert(code_.end(), code.begin(), code.end()); }

  bool is_final(const State& state) const {
    return std::all_of(state.threads.begin(), state.threads.end(),
                       [&](const Thread& thread) { return code_[thread.at].kind == Instruction::kHalt; });
  }

  // Two independent hashes name a state.
  static std::pair<std::uint64_t, std::uint64_t> name_of(const State& state) {
    std::uint64_t a = 0xcbf29ce484222325;
    std::uint64_t b = 0x9e3779b97f4a7c15;
    unsigned char bytes[sizeof(State) / 8 * 8 + 8] = {};
    std::memcpy(bytes, &state, sizeof state);
    for (std::size_t i = 0; i < sizeof bytes; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes + i, 8);
      a = (a ^ word) * 0x100000001b3;
      a ^= a >> 32U;
      b = (b + word) * 0xd6e8feb86659fd93;
      b ^= b >> 29U;
    }
    return {a, b};
  }
  struct NameHash {
    std::size_t operator()(const std::pair<std::uint64_t, std::uint64_t>& name) const { return name.first; }
  };

  // Threads with the same code are interchangeable: of states that differ by their names alone, one stands for all.
  void rename(State& state) const {
    if (first_[0] != first_[1] || first_[1] != first_[2] || protocol_.shared_out) return;
    std::array<std::uint8_t, kThreads> order = {0, 1, 2};
    const auto key = [&](std::uint8_t i) {
      const Thread& thread = state.threads[i];
      return std::tuple(thread.at, thread.step, thread.seen, thread.held, thread.done,
                        state.memory.known_to(i));
    };
    std::sort(order.begin(), order.end(), [&](std::uint8_t a, std::uint8_t b) { return key(a) < key(b); });
    state.memory.permute(order);
    const std::array<Thread, kThreads> old = state.threads;
    for (std::size_t i = 0; i < kThreads; ++i) state.threads[i] = old[order[i]];
  }

  void visit(State& state) {
    state.memory.forget();
    rename(state);
    const auto [place, is_new] = ids_.try_emplace(name_of(state), static_cast<std::uint32_t>(ids_.size()));
    if (is_new) open_.emplace_back(state, place->second);
    edges_.emplace_back(place->second, from_);
  }

  void fail(std::string_view what, std::size_t thread, const Instruction& instruction) {
    if (problem_.empty())
      problem_ =
          std::string(what) + " " + std::to_string(instruction.where) + ", thread " + std::to_string(thread);
  }

  // What touches no atomic is done at once: vector clocks find a race in either order.
  void run_local(State& state, std::size_t i) {
    Thread& thread = state.threads[i];
    for (;; ++thread.at) {
      const Instruction& instruction = code_[thread.at];
      if (instruction.kind == Instruction::kRead) {
        if (!state.memory.read(i, instruction.where)) fail("race on a read of", i, instruction);
        if (state.memory.datum(instruction.where) != instruction.value)
          fail("wrong value of", i, instruction);
      } else if (instruction.kind == Instruction::kWrite) {
        if (!state.memory.write(i, instruction.where, instruction.value))
          fail("race on a write of", i, instruction);
      } else if (instruction.kind == Instruction::kNext) {
        thread.at = first_[i];
        while (code_[thread.at].kind != Instruction::kTake) ++thread.at;
        if (thread.held != kNothing && thread.held >= tasks_.size()) ++thread.at;
        return;
      } else {
        return;
      }
    }
  }

  void go_on(State& state, std::size_t i, std::uint8_t at) {
    state.threads[i].at = at;
    state.threads[i].step = kStart;
    state.threads[i].seen = 0;
    run_local(state, i);
    visit(state);
  }
  void go_on(State& state, std::size_t i) {
    go_on(state, i, static_cast<std::uint8_t>(state.threads[i].at + 1));
  }
  void go_to(State& state, std::size_t i, Step step, std::uint8_t seen) {
    state.threads[i].step = step;
    state.threads[i].seen = seen;
    visit(state);
  }

  // The three kinds of access, each in every way that the model allows. `then(state, value read)` goes on.
  template <typename F>
  void load(const State& state, std::size_t i, std::uint8_t at, Order order, const F& then) {
    for (std::uint8_t place = state.memory.first_readable(i, at); place < state.memory.end(at); ++place) {
      State next = state;
      next.memory.load(i, at, place, order);
      then(next, state.memory.value(at, place));
    }
  }
  template <typename F>
  void store(const State& state, std::size_t i, std::uint8_t at, std::uint8_t value, Order order,
             const F& then) {
    for (std::uint8_t place = state.memory.first_readable(i, at); place < state.memory.end(at); ++place) {
      if (!state.memory.is_open(at, place)) continue;
      State next = state;
      next.memory.store(i, at, place, value, order);
      then(next);
    }
  }
  template <typename Change, typename F>
  void update(const State& state, std::size_t i, std::uint8_t at, Order order, const Change& change,
              const F& then) {
    for (std::uint8_t place = state.memory.first_readable(i, at); place < state.memory.end(at); ++place) {
      if (!state.memory.is_open(at, place)) continue;
      State next = state;
      const std::uint8_t old = state.memory.value(at, place);
      next.memory.update(i, at, place, change(old), order);
      then(next, old);
    }
  }

  void step(const State& state, std::size_t i) {
    const Instruction& instruction = code_[state.threads[i].at];
    switch (instruction.kind) {
      case Instruction::kTake:
        take(state, i, instruction);
        break;
      case Instruction::kWait:
        wait(state, i, instruction);
        break;
      case Instruction::kBump:
        change(state, i, instruction, protocol_.bump, protocol_.bump_is_update);
        break;
      case Instruction::kPublish:
        change(state, i, instruction, protocol_.publish, protocol_.publish_is_update);
        break;
      case Instruction::kReset:
        store(state, i, instruction.where, 0, Order::kRelaxed, [&](State& next) { go_on(next, i); });
        break;
      default:
        return;
    }
  }

  // A worker that looks ahead takes two tasks before it begins the first, then one before each.
  void take(const State& state, std::size_t i, const Instruction& instruction) {
    const std::uint8_t at = instruction.where;
    const std::uint8_t held = state.threads[i].held;
    const auto begin = [&](State& next, std::uint8_t ticket) {
      Thread& thread = next.threads[i];
      std::uint8_t task = ticket;
      if (protocol_.looks_ahead) {
        thread.held = ticket;
        if (held == kNothing && ticket < tasks_.size()) {
          go_to(next, i, kStart, 0);
          return;
        }
        if (held != kNothing) task = held;
        if (!protocol_.oldest_first && ticket < tasks_.size()) std::swap(task, thread.held);
      }
      go_on(next, i, task < tasks_.size() ? tasks_[task] : static_cast<std::uint8_t>(thread.at + 1));
    };
    const auto increment = [](std::uint8_t old) { return static_cast<std::uint8_t>(old + 1); };
    const std::uint8_t seen = state.threads[i].seen;
    if (protocol_.shared_out) {
      State next = state;
      begin(next, static_cast<std::uint8_t>(held == kNothing ? i : held + kThreads));
    } else if (protocol_.ticket_is_update) {
      update(state, i, at, Order::kRelaxed, increment, begin);
    } else if (state.threads[i].step == kStart) {
      load(state, i, at, Order::kRelaxed,
           [&](State& next, std::uint8_t value) { go_to(next, i, kStore, value); });
    } else {
      store(state, i, at, increment(seen), Order::kRelaxed, [&](State& next) { begin(next, seen); });
    }
  }

  // The word that a task bumps, or none.
  std::uint8_t signal_of(std::uint8_t task) const {
    for (std::size_t at = tasks_[task]; code_[at].kind != Instruction::kNext; ++at)
      if (code_[at].kind == Instruction::kBump) return code_[at].where;
    return kNothing;
  }

  // What a bump counts, if it is made now: 0 where the next task in hand bumps, too.
  std::uint8_t counted(const Thread& thread, std::uint8_t word) const {
    if (!protocol_.joins_bumps) return 1;
    const bool is_followed = thread.held < tasks_.size() && signal_of(thread.held) != kNothing;
    const bool joins = is_followed && (signal_of(thread.held) == word || !protocol_.joins_same_only);
    if (protocol_.joins_when_done) return joins ? 0 : static_cast<std::uint8_t>(thread.done + 1);
    // Told in advance: the next one's with this one's, then nothing.
    return thread.done > 0 ? 0 : (joins ? 2 : 1);
  }

  // Counter::bump and Workers::start_round: the word changes, then sleepers are woken if it was the last bump, or a round.
  void change(const State& state, std::size_t i, const Instruction& instruction, Order order,
              bool is_update) {
    const std::uint8_t at = instruction.where;
    const bool is_bump = instruction.kind == Instruction::kBump;
    const Thread& thread = state.threads[i];
    const std::uint8_t count = is_bump ? counted(thread, at) : 0;
    const auto changed = [&](std::uint8_t old) {
      return is_bump ? static_cast<std::uint8_t>(old + count) : instruction.value;
    };
    const auto after = [&](State& next, std::uint8_t old) {
      const std::uint8_t last = protocol_.wakes_by_joined_total ? count : 1;
      const bool wake = is_bump ? old == (kAsleep | (instruction.value - last)) : (old & kAsleep) != 0;
      if (is_bump) next.threads[i].done = protocol_.joins_when_done ? 0 : count - 1;
      wake&& protocol_.wakes ? go_to(next, i, kWake, 0) : go_on(next, i);
    };
    if (is_bump && count == 0 && thread.step == kStart) {
      State next = state;
      next.threads[i].done = protocol_.joins_when_done ? thread.done + 1 : 0;
      go_on(next, i);
    } else if (thread.step == kWake) {
      State next = state;
      next.memory.lock_kernel(i);
      for (Thread& other : next.threads)
        if (other.step == kSlumber && code_[other.at].where == at) other.step = kLook;
      go_on(next, i);
    } else if (is_update) {
      update(state, i, at, order, changed, after);
    } else if (thread.step == kStart) {
      load(state, i, at, Order::kRelaxed,
           [&](State& next, std::uint8_t value) { go_to(next, i, kStore, value); });
    } else {
      store(state, i, at, changed(thread.seen), order, [&](State& next) { after(next, thread.seen); });
    }
  }

  // Counter::wait and Workers::wait_for_round_after.
  void wait(const State& state, std::size_t i, const Instruction& instruction) {
    const std::uint8_t at = instruction.where;
    const Thread& thread = state.threads[i];
    const auto flagged = [&](State& next, std::uint8_t old) {
      (old & ~kAsleep) == instruction.value ? go_on(next, i) : go_to(next, i, kCompare, old | kAsleep);
    };
    switch (thread.step) {
      case kStart:  // awake: looks any number of times, then sets the bit
        load(state, i, at, protocol_.wait, [&](State& after, std::uint8_t value) {
          (value & ~kAsleep) == instruction.value ? go_on(after, i) : visit(after);
        });
        if (protocol_.asleep_is_update) {
          const auto flag = [](std::uint8_t old) { return static_cast<std::uint8_t>(old | kAsleep); };
          update(state, i, at, protocol_.wait, flag, flagged);
        } else {
          load(state, i, at, protocol_.wait,
               [&](State& next, std::uint8_t value) { go_to(next, i, kFlagStore, value); });
        }
        return;
      case kFlagStore:
        store(state, i, at, thread.seen | kAsleep, Order::kRelaxed,
              [&](State& next) { flagged(next, thread.seen); });
        return;
      case kCompare: {
        State locked = state;
        locked.memory.lock_kernel(i);
        load(locked, i, at, Order::kRelaxed, [&](State& next, std::uint8_t value) {
          next.memory.lock_kernel(i);
          value == thread.seen || !protocol_.kernel_compares ? go_to(next, i, kSlumber, 0)
                                                             : go_to(next, i, kLook, 0);
        });
        return;
      }
      case kLook:
        load(state, i, at, protocol_.wait, flagged);
        return;
      default:
        return;  // asleep
    }
  }

  // A state from which no execution comes to its end: a deadlock, or threads that run in circles.
  std::string find_stuck() {
    std::sort(edges_.begin(), edges_.end());
    std::vector<bool> ends(ids_.size(), false);
    std::vector<std::uint32_t> open = final_;
    for (const std::uint32_t id : final_) ends[id] = true;
    std::size_t n = open.size();
    while (!open.empty()) {
      const std::uint32_t id = open.back();
      open.pop_back();
      auto edge =
          std::lower_bound(edges_.begin(), edges_.end(), std::pair<std::uint32_t, std::uint32_t>(id, 0));
      for (; edge != edges_.end() && edge->first == id; ++edge) {
        if (ends[edge->second]) continue;
        ends[edge->second] = true;
        ++n;
        open.push_back(edge->second);
      }
    }
    if (n == ids_.size()) return {};
    return "stuck: from " + std::to_string(ids_.size() - n) + " of " + std::to_string(ids_.size()) +
           " states";
  }

  Protocol protocol_;
  Code code_;
  std::array<std::uint8_t, kThreads> first_{};
  std::vector<std::uint8_t> tasks_;
  std::unordered_map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t, NameHash> ids_;
  std::vector<std::pair<State, std::uint32_t>> open_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges_;  // to, from
  std::vector<std::uint32_t> final_;
  std::uint32_t from_ = 0;
  std::string problem_;
};

}  // namespace sluice::test
