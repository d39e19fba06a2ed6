// Time and memory are near linear in tasks and waits, not in their product: tasks of an op that read the same are one
// consumer, and what an op wrote is searched row band by row band.
#include "program/dependencies.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "program/regions.h"

namespace sluice::program {
namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFF;

bool is_same(const Region& a, const Region& b) {
  return a.buffer == b.buffer && a.layer == b.layer && a.row_begin == b.row_begin && a.row_end == b.row_end &&
         a.col_begin == b.col_begin && a.col_end == b.col_end;
}

// Each task is a tile of some rows.
constexpr bool is_cut_into_tiles(OpKind kind) {
  return has_weights(kind) || kind == OpKind::kRecompute;
}

// Who last wrote each part of the buffers.
class Writers {
 public:
  explicit Writers(std::size_t n_layers) : n_layers_(n_layers), buffers_(n_layers * kBuffers) {}

  // Calls found(task) for each that wrote some of `region` last.
  template <typename Found>
  void for_each(const Region& region, const Found& found) const {
    for (const Band& band : buffers_[index_of(region)]) {
      if (!overlap(band.region, region)) continue;
      const std::uint32_t begin = std::max(band.region.col_begin, region.col_begin);
      const std::uint32_t end = std::min(band.region.col_end, region.col_end);
      const auto first = parts_.begin() + band.first_part;
      const auto last = parts_.begin() + band.last_part;
      for (auto part = std::upper_bound(first, last, begin, ends_behind); part != last && part->begin < end;
           ++part)
        found(part->task);
    }
  }

  // A task of the op at hand writes `region`.
  void add(const Region& region, std::uint32_t task) {
    if (!new_.empty() && is_next(new_.back().region, region)) {
      new_.back().region.col_end = region.col_end;
      ++new_.back().last_part;
    } else {
      const auto part = static_cast<std::uint32_t>(new_parts_.size());
      new_.push_back({region, part, part + 1});
    }
    Part& part = new_parts_.emplace_back();
    part.begin = region.col_begin;
    part.end = region.col_end;
    part.task = task;
  }

  // The op is complete: what earlier ones wrote to the same places is gone. An op's own tasks never overlap.
  void finish_op() {
    const auto place = [](const Band& band) {
      const Region& r = band.region;
      return std::tuple(r.buffer, r.layer, r.row_begin, r.row_end, r.col_begin);
    };
    const auto is_before = [&](const Band& a, const Band& b) { return place(a) < place(b); };
    if (!std::is_sorted(new_.begin(), new_.end(), is_before)) std::sort(new_.begin(), new_.end(), is_before);
    for (auto next = new_.begin(); next != new_.end();) {
      Band band{next->region, static_cast<std::uint32_t>(parts_.size()), 0};
      band.region.col_end = band.region.col_begin;
      for (; next != new_.end() && is_next(band.region, next->region); ++next) {
        band.region.col_end = next->region.col_end;
        parts_.insert(parts_.end(), new_parts_.begin() + next->first_part,
                      new_parts_.begin() + next->last_part);
      }
      band.last_part = static_cast<std::uint32_t>(parts_.size());
      replace(band);
    }
    new_.clear();
    new_parts_.clear();
  }

 private:
  static constexpr std::size_t kBuffers = static_cast<std::size_t>(Buffer::kKeyValue) + 1;

  struct Part {
    std::uint32_t begin = 0;  // columns
    std::uint32_t end = 0;
    std::uint32_t task = kNone;
  };
  // Parts side by side, for the same rows. Their columns may reach beyond the region's: later writes cut only that.
  struct Band {
    Region region;
    std::uint32_t first_part = 0;  // [first_part, last_part)
    std::uint32_t last_part = 0;
  };

  static bool ends_behind(std::uint32_t column, const Part& part) { return column < part.end; }

  // Whether `next` stands to the right of `region`.
  static bool is_next(const Region& region, const Region& next) {
    return region.buffer == next.buffer && region.layer == next.layer && region.row_begin == next.row_begin &&
           region.row_end == next.row_end && region.col_end == next.col_begin;
  }

  std::size_t index_of(const Region& region) const {
    return static_cast<std::size_t>(region.buffer) * n_layers_ + region.layer;
  }

  void replace(const Band& band) {
    std::vector<Band>& bands = buffers_[index_of(band.region)];
    rests_.clear();
    std::erase_if(bands, [&](const Band& old) {
      const bool is_hit = overlap(old.region, band.region);
      if (is_hit) keep_rest(old, band.region);
      return is_hit;
    });
    bands.insert(bands.end(), rests_.begin(), rests_.end());
    bands.push_back(band);
  }

  // What `hole` leaves of a band: above, below, left, right.
  void keep_rest(const Band& old, const Region& hole) {
    const Region& r = old.region;
    const std::uint32_t top = std::max(r.row_begin, hole.row_begin);
    const std::uint32_t bottom = std::min(r.row_end, hole.row_end);
    const std::array<Region, 4> rests = {{
        {r.buffer, r.layer, r.row_begin, top, r.col_begin, r.col_end},
        {r.buffer, r.layer, bottom, r.row_end, r.col_begin, r.col_end},
        {r.buffer, r.layer, top, bottom, r.col_begin, std::max(r.col_begin, hole.col_begin)},
        {r.buffer, r.layer, top, bottom, std::min(r.col_end, hole.col_end), r.col_end},
    }};
    for (const Region& rest : rests)
      if (rest.row_begin < rest.row_end && rest.col_begin < rest.col_end)
        rests_.push_back({rest, old.first_part, old.last_part});
  }

  std::size_t n_layers_;
  std::vector<std::vector<Band>> buffers_;  // [buffers, layers]  bands that don't overlap
  std::vector<Part> parts_;
  std::vector<Band> new_;  // of the op at hand; its parts are of new_parts_
  std::vector<Part> new_parts_;
  std::vector<Band> rests_;
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
  // Tasks [first_task, next consumer's first) of one op, which read the same.
  struct Consumer {
    std::uint32_t first_task = 0;
    std::size_t first_producer = 0;  // in producers_
  };

  void find_producers() {
    Writers writers(program_.config.n_layers());
    Access access;
    std::vector<Region> reads;  // of the consumer at hand
    for (const Op& op : program_.ops) {
      const bool has_tiles = is_cut_into_tiles(op.kind);
      for (std::uint32_t task = op.first_task; task < op.first_task + op.n_tasks; ++task) {
        const Task& it = program_.tasks[task];
        if (has_tiles && task != op.first_task && it.rows == program_.tasks[task - 1].rows) {
          // The tile before, moved: for the same rows it reads the same, but for what it adds to in place.
          const Columns tile = program_.tilings[op.tiling][it.part];
          for (Region& written : access.writes) {
            written.col_begin = tile.begin;
            written.col_end = tile.end;
            writers.add(written, task);
          }
          continue;
        }
        regions_of(program_, it, access);
        for (const Region& written : access.writes) writers.add(written, task);
        std::erase_if(access.reads, [&](const Region& read) { return is_in_place(read, access); });
        if (task == op.first_task ||
            !std::equal(access.reads.begin(), access.reads.end(), reads.begin(), reads.end(), is_same)) {
          std::swap(reads, access.reads);
          add_consumer(task, reads, writers);
        }
      }
      writers.finish_op();
    }
    consumers_.push_back({static_cast<std::uint32_t>(program_.tasks.size()), producers_.size()});
  }

  void add_consumer(std::uint32_t task, const std::vector<Region>& reads, const Writers& writers) {
    consumers_.push_back({task, producers_.size()});
    const auto begin = static_cast<std::ptrdiff_t>(producers_.size());
    for (const Region& read : reads)
      writers.for_each(read, [this](std::uint32_t producer) { producers_.push_back(producer); });
    sort_and_unite(producers_, begin);
  }

  static void sort_and_unite(std::vector<std::uint32_t>& values, std::ptrdiff_t begin) {
    const auto first = values.begin() + begin;
    if (!std::is_sorted(first, values.end())) std::sort(first, values.end());
    values.erase(std::unique(first, values.end()), values.end());
  }

  // What a task adds to in place was complete before its other input could be made: residual before mix_out and
  // mlp_out. To wait for it too would only take counters apart.
  static bool is_in_place(const Region& read, const Access& access) {
    return std::any_of(access.writes.begin(), access.writes.end(),
                       [&](const Region& written) { return overlap(read, written); });
  }

  std::size_t n_consumers() const { return consumers_.size() - 1; }

  template <typename Visit>
  void for_each_producer(std::size_t consumer, const Visit& visit) const {
    for (std::size_t i = consumers_[consumer].first_producer; i < consumers_[consumer + 1].first_producer;
         ++i)
      visit(producers_[i]);
  }

  // Tasks are of one class while the same tasks wait for them: every consumer splits the classes of its producers.
  void refine_classes() {
    std::vector<std::size_t> splitter(1, n_consumers());  // [classes]  the consumer that last split it
    std::vector<std::uint32_t> part(1, 0);  // [classes]  what that one needs of it, a class of its own
    for (std::size_t consumer = 0; consumer < n_consumers(); ++consumer) {
      for_each_producer(consumer, [&](std::uint32_t producer) {
        std::uint32_t& its = class_of_[producer];
        if (splitter[its] != consumer) {
          splitter[its] = consumer;
          part[its] = static_cast<std::uint32_t>(part.size());
          splitter.push_back(n_consumers());
          part.push_back(0);
        }
        its = part[its];
      });
    }
    n_classes_ = part.size();
  }

  // Counters in the order in which they are first bumped; class 0, which nobody in the step waits for, last.
  void number_counters() {
    std::vector<std::uint32_t> counter_of_class(n_classes_, kNone);
    for (std::uint32_t task = 0; task < program_.tasks.size(); ++task) {
      if (class_of_[task] == 0) continue;
      std::uint32_t& counter = counter_of_class[class_of_[task]];
      if (counter == kNone) {
        counter = static_cast<std::uint32_t>(program_.counters.size());
        program_.counters.push_back(0);
      }
      program_.tasks[task].signal = counter;
    }
    const auto last = static_cast<std::uint32_t>(program_.counters.size());
    program_.counters.push_back(0);
    for (std::uint32_t task = 0; task < program_.tasks.size(); ++task)
      if (class_of_[task] == 0) program_.tasks[task].signal = last;
    for (const Task& task : program_.tasks) ++program_.counters[task.signal];
    SLUICE_CHECK(program_.counters[last] > 0);  // the list's last task, at least
  }

  void set_waits() {
    n_words_ = (program_.counters.size() + 63) / 64;
    implied_.assign(program_.counters.size() * n_words_, 0);
    std::vector<std::uint32_t> counters;
    for (std::size_t consumer = 0; consumer < n_consumers(); ++consumer) {
      counters.clear();
      for_each_producer(consumer,
                        [&](std::uint32_t task) { counters.push_back(program_.tasks[task].signal); });
      sort_and_unite(counters, 0);
      drop_implied(counters);
      std::uint32_t last_signal = kNone;
      for (std::uint32_t task = consumers_[consumer].first_task; task < consumers_[consumer + 1].first_task;
           ++task) {
        set_waits(program_.tasks[task], counters);
        if (program_.tasks[task].signal == last_signal) continue;
        last_signal = program_.tasks[task].signal;
        for (const std::uint32_t counter : counters) imply(last_signal, counter);
      }
    }
  }

  void set_waits(Task& waiting, const std::vector<std::uint32_t>& counters) {
    waiting.first_wait = static_cast<std::uint32_t>(program_.waits.size());
    for (const std::uint32_t counter : counters)
      program_.waits.push_back({counter, program_.counters[counter], false});
    if (program_.ops[waiting.op].kind == OpKind::kEmbed) {
      const auto last = static_cast<std::uint32_t>(program_.counters.size()) - 1;
      program_.waits.push_back({last, program_.counters[last], true});
    }
    waiting.n_waits = static_cast<std::uint32_t>(program_.waits.size()) - waiting.first_wait;
  }

  bool implies(std::uint32_t later, std::uint32_t counter) const {
    return (implied_[later * n_words_ + counter / 64] >> (counter % 64) & 1) != 0;
  }

  // Leaves out what the other waits imply.
  void drop_implied(std::vector<std::uint32_t>& counters) const {
    if (counters.size() < 2) return;
    const std::vector<std::uint32_t> all = counters;
    std::erase_if(counters, [&](std::uint32_t counter) {
      return std::any_of(all.begin(), all.end(),
                         [&](std::uint32_t other) { return implies(other, counter); });
    });
  }

  // What bumps `signal` has waited for `counter`.
  void imply(std::uint32_t signal, std::uint32_t counter) {
    if (implies(signal, counter)) return;
    for (std::size_t i = 0; i < n_words_; ++i)
      implied_[signal * n_words_ + i] |= implied_[counter * n_words_ + i];
    implied_[signal * n_words_ + counter / 64] |= std::uint64_t{1} << (counter % 64);
  }

  Program& program_;
  std::vector<Consumer> consumers_;       // [consumers + 1]
  std::vector<std::uint32_t> producers_;  // of all consumers, one after the other
  std::vector<std::uint32_t> class_of_;   // [tasks]
  std::size_t n_classes_ = 0;
  std::size_t n_words_ = 0;             // of a set of counters
  std::vector<std::uint64_t> implied_;  // [counters, words]  the set of those that were waited for before
};

}  // namespace

void derive_waits(Program& program) {
  program.waits.clear();
  program.counters.clear();
  Deriver(program).run();
}

}  // namespace sluice::program
