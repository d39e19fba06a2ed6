#include "program/dependencies.h"

#include <algorithm>
#include <array>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "program/regions.h"

namespace sluice::program {
namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFF;

// Who last wrote a part of a buffer. The parts don't overlap.
struct Written {
  Region region;
  std::uint32_t task = kNone;
};

struct WrittenBuffer {
  std::vector<Written> parts;  // first those of earlier ops, then those of `op`
  std::size_t n_earlier = 0;
  std::uint32_t op = kNone;
};

class Deriver {
 public:
  explicit Deriver(Program& program) : program_(program), class_of_(program.tasks.size(), 0) {}

  void run() {
    find_producers();
    refine_classes();
    number_counters();
    set_waits();
  }

 private:
  void find_producers() {
    Access access;
    producers_begin_.push_back(0);
    for (std::uint32_t task = 0; task < program_.tasks.size(); ++task) {
      regions_of(program_, program_.tasks[task], access);
      const std::size_t begin = producers_.size();
      for (const Region& read : access.reads)
        if (!is_in_place(read, access)) collect(read);
      std::sort(producers_.begin() + static_cast<std::ptrdiff_t>(begin), producers_.end());
      producers_.erase(std::unique(producers_.begin() + static_cast<std::ptrdiff_t>(begin), producers_.end()),
                       producers_.end());
      producers_begin_.push_back(producers_.size());
      for (const Region& written : access.writes) note(written, task);
    }
  }

  WrittenBuffer& buffer_of(const Region& region) {
    return buffers_[{static_cast<std::uint32_t>(region.buffer), region.layer}];
  }

  void collect(const Region& read) {
    for (const Written& written : buffer_of(read).parts)
      if (overlap(written.region, read)) producers_.push_back(written.task);
  }

  // What a task adds to in place was complete before its other input could be made: residual before mix_out and
  // mlp_out. To wait for it too would only take counters apart.
  static bool is_in_place(const Region& read, const Access& access) {
    return std::any_of(access.writes.begin(), access.writes.end(),
                       [&](const Region& written) { return overlap(read, written); });
  }

  // What earlier ops wrote there is gone, as far as `region` covers it. An op's own tasks never overlap.
  void note(const Region& region, std::uint32_t task) {
    WrittenBuffer& buffer = buffer_of(region);
    std::vector<Written>& parts = buffer.parts;
    if (buffer.op != program_.tasks[task].op) {
      buffer.op = program_.tasks[task].op;
      std::erase_if(parts, [](const Written& part) { return part.task == kNone; });
      buffer.n_earlier = parts.size();
    }
    for (std::size_t i = 0; i < buffer.n_earlier; ++i)
      if (parts[i].task != kNone && overlap(parts[i].region, region)) replace_by_rest(buffer, i, region);
    parts.push_back({region, task});
  }

  // What `hole` leaves of part i: above, below, left, right.
  static void replace_by_rest(WrittenBuffer& buffer, std::size_t i, const Region& hole) {
    const Written old = std::exchange(buffer.parts[i], Written{});
    const Region& r = old.region;
    const std::uint32_t top = std::max(r.row_begin, hole.row_begin);
    const std::uint32_t bottom = std::min(r.row_end, hole.row_end);
    const std::array<Region, 4> rests = {{
        {r.buffer, r.layer, r.row_begin, top, r.col_begin, r.col_end},
        {r.buffer, r.layer, bottom, r.row_end, r.col_begin, r.col_end},
        {r.buffer, r.layer, top, bottom, r.col_begin, std::max(r.col_begin, hole.col_begin)},
        {r.buffer, r.layer, top, bottom, std::min(r.col_end, hole.col_end), r.col_end},
    }};
    for (const Region& rest : rests) {
      if (rest.row_begin >= rest.row_end || rest.col_begin >= rest.col_end) continue;
      buffer.parts.insert(buffer.parts.begin() + static_cast<std::ptrdiff_t>(buffer.n_earlier),
                          {rest, old.task});
      ++buffer.n_earlier;
    }
  }

  // Tasks are of one class while the same tasks wait for them: every consumer splits the classes of its producers.
  void refine_classes() {
    std::uint32_t n_classes = 1;
    std::unordered_map<std::uint32_t, std::uint32_t> split;  // class → its part that this consumer needs
    for (std::uint32_t consumer = 0; consumer < program_.tasks.size(); ++consumer) {
      split.clear();
      for (std::size_t i = producers_begin_[consumer]; i < producers_begin_[consumer + 1]; ++i) {
        const auto [place, is_new] = split.try_emplace(class_of_[producers_[i]], n_classes);
        if (is_new) ++n_classes;
        class_of_[producers_[i]] = place->second;
      }
    }
  }

  // Counters in the order in which they are first bumped; class 0, which nobody in the step waits for, last.
  void number_counters() {
    std::unordered_map<std::uint32_t, std::uint32_t> counter_of_class;
    for (std::uint32_t task = 0; task < program_.tasks.size(); ++task) {
      if (class_of_[task] == 0) continue;
      const auto [place, is_new] =
          counter_of_class.try_emplace(class_of_[task], static_cast<std::uint32_t>(program_.counters.size()));
      if (is_new) program_.counters.push_back(0);
      program_.tasks[task].signal = place->second;
    }
    const auto last = static_cast<std::uint32_t>(program_.counters.size());
    program_.counters.push_back(0);
    for (std::uint32_t task = 0; task < program_.tasks.size(); ++task)
      if (class_of_[task] == 0) program_.tasks[task].signal = last;
    for (const Task& task : program_.tasks) ++program_.counters[task.signal];
    SLUICE_CHECK(program_.counters[last] > 0);  // the list's last task, at least
  }

  void set_waits() {
    implied_.assign(program_.counters.size(),
                    std::vector<std::uint64_t>((program_.counters.size() + 63) / 64));
    std::vector<std::uint32_t> counters;
    for (std::uint32_t task = 0; task < program_.tasks.size(); ++task) {
      counters.clear();
      for (std::size_t i = producers_begin_[task]; i < producers_begin_[task + 1]; ++i)
        counters.push_back(program_.tasks[producers_[i]].signal);
      std::sort(counters.begin(), counters.end());
      counters.erase(std::unique(counters.begin(), counters.end()), counters.end());
      drop_implied(counters);

      Task& waiting = program_.tasks[task];
      waiting.first_wait = static_cast<std::uint32_t>(program_.waits.size());
      for (const std::uint32_t counter : counters) {
        program_.waits.push_back({counter, program_.counters[counter], false});
        imply(waiting.signal, counter);
      }
      if (program_.ops[waiting.op].kind == OpKind::kEmbed) {
        const auto last = static_cast<std::uint32_t>(program_.counters.size()) - 1;
        program_.waits.push_back({last, program_.counters[last], true});
      }
      waiting.n_waits = static_cast<std::uint32_t>(program_.waits.size()) - waiting.first_wait;
    }
  }

  // Leaves out what the other waits imply.
  void drop_implied(std::vector<std::uint32_t>& counters) const {
    const std::vector<std::uint32_t> all = counters;
    std::erase_if(counters, [&](std::uint32_t counter) {
      return std::any_of(all.begin(), all.end(), [&](std::uint32_t other) {
        return (implied_[other][counter / 64] >> (counter % 64) & 1) != 0;
      });
    });
  }

  // What bumps `signal` has waited for `counter`.
  void imply(std::uint32_t signal, std::uint32_t counter) {
    std::vector<std::uint64_t>& set = implied_[signal];
    if ((set[counter / 64] >> (counter % 64) & 1) != 0) return;
    for (std::size_t i = 0; i < set.size(); ++i) set[i] |= implied_[counter][i];
    set[counter / 64] |= std::uint64_t{1} << (counter % 64);
  }

  Program& program_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, WrittenBuffer> buffers_;  // by buffer and layer
  std::vector<std::uint32_t> producers_;      // of all tasks, one after the other
  std::vector<std::size_t> producers_begin_;  // [tasks + 1]
  std::vector<std::uint32_t> class_of_;       // [tasks]
  std::vector<std::vector<std::uint64_t>>
      implied_;  // [counters]  the set of those that were waited for before
};

}  // namespace

void derive_waits(Program& program) {
  program.waits.clear();
  program.counters.clear();
  Deriver(program).run();
}

}  // namespace sluice::program
