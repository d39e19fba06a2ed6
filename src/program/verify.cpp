#include "program/verify.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "program/regions.h"

namespace sluice::program {
namespace {

using model::LayerKind;

constexpr std::uint32_t kSteps = 3;
constexpr std::uint32_t kNone = 0xFFFFFFFF;

// One task for each output.
bool is_of_output(OpKind kind) {
  return kind == OpKind::kSelect || kind == OpKind::kSample;
}

// Groups of output rows, tiles of the vocabulary.
bool is_of_head(OpKind kind) {
  return kind >= OpKind::kHead && kind <= OpKind::kRecompute && !is_of_output(kind);
}

// A set of counters of all steps: those that have certainly reached their target.
class CounterSet {
 public:
  explicit CounterSet(std::size_t n) : words_((n + 63) / 64) {}
  void insert(std::size_t i) { words_[i / 64] |= std::uint64_t{1} << (i % 64); }
  bool contains(std::size_t i) const { return (words_[i / 64] >> (i % 64) & 1) != 0; }
  void insert(const CounterSet& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }

 private:
  std::vector<std::uint64_t> words_;
};

// The elements of one buffer that no region tells apart are one cell.
struct Cells {
  std::vector<std::uint32_t> row_edges;  // ascending
  std::vector<std::uint32_t> col_edges;

  struct Cell {
    std::uint32_t writer = kNone;        // task instance: step * tasks + task
    std::uint32_t op_instance = kNone;   // that wrote last, for "exactly once"
    std::vector<std::uint32_t> readers;  // since then
  };
  std::vector<Cell> cells;  // [row_edges - 1, col_edges - 1]

  void finish() {
    for (std::vector<std::uint32_t>* edges : {&row_edges, &col_edges}) {
      std::sort(edges->begin(), edges->end());
      edges->erase(std::unique(edges->begin(), edges->end()), edges->end());
    }
    cells.resize((row_edges.size() - 1) * (col_edges.size() - 1));
  }

  template <typename Visit>
  void for_each(const Region& region, const Visit& visit) {
    const auto at = [](const std::vector<std::uint32_t>& edges, std::uint32_t edge) {
      return static_cast<std::size_t>(std::lower_bound(edges.begin(), edges.end(), edge) - edges.begin());
    };
    const std::size_t row_end = at(row_edges, region.row_end);
    const std::size_t col_begin = at(col_edges, region.col_begin);
    const std::size_t col_end = at(col_edges, region.col_end);
    for (std::size_t row = at(row_edges, region.row_begin); row < row_end; ++row)
      for (std::size_t col = col_begin; col < col_end; ++col)
        visit(cells[row * (col_edges.size() - 1) + col], row, col);
  }
};

// What an op must have written when it is done.
class Expected {
 public:
  explicit Expected(const Program& program) : program_(program) {}

  std::vector<Region> of(const Op& op) const {
    const model::ModelConfig& config = program_.config;
    const bool is_last = op.layer + 1 == config.n_layers();
    const ProjectionLayout layout = projection_layout(config, op.layer_kind);
    std::vector<Region> out;
    switch (op.kind) {
      case OpKind::kEmbed:
        all_rows(Buffer::kResidual, {0, narrow(config.hidden_size)}, out);
        all_rows(Buffer::kRotary, {0, narrow(config.rotary_dim)}, out);
        break;
      case OpKind::kMixIn:
        if (op.layer_kind == LayerKind::kAttention && is_last) {
          output_rows(Buffer::kProjection, {0, layout.k.begin}, out);
          all_rows(Buffer::kProjection, {layout.k.begin, layout.width}, out);
        } else {
          all_rows(Buffer::kProjection, {0, layout.width}, out);
        }
        break;
      case OpKind::kKvAppend:
        all_rows(Buffer::kKeyValue, {0, narrow(config.n_kv_heads)}, out, op.layer);
        break;
      case OpKind::kMix:
        op.layer_kind == LayerKind::kDeltaNet ? delta_net(op, out) : attention(is_last, false, out);
        break;
      case OpKind::kMixMerge:
        attention(is_last, true, out);
        break;
      case OpKind::kMixOut:
      case OpKind::kMlpOut:
        rows(is_last, Buffer::kResidual, {0, narrow(config.hidden_size)}, out);
        break;
      case OpKind::kMlpIn:
        rows(is_last, Buffer::kGated, {0, narrow(config.intermediate_size)}, out);
        break;
      case OpKind::kHead:
      case OpKind::kRecompute:
        out.push_back({Buffer::kLogits, 0, 0, n_outputs(), 0, narrow(config.vocab_size)});
        break;
      case OpKind::kSkim:
      case OpKind::kScreen: {
        const Columns columns = screened_columns(op.kind, config.vocab_size);
        out.push_back({Buffer::kScreened, 0, 0, n_outputs(), columns.begin, columns.end});
        break;
      }
      case OpKind::kSelect:
        out.push_back({Buffer::kSelected, 0, 0, n_outputs(), 0, 1});
        break;
      case OpKind::kSample:
        out.push_back({Buffer::kSampled, 0, 0, n_outputs(), 0, 1});
        break;
    }
    return out;
  }

 private:
  static std::uint32_t narrow(std::size_t value) { return static_cast<std::uint32_t>(value); }
  std::uint32_t n_outputs() const { return narrow(program_.shape.output_rows.size()); }

  void all_rows(Buffer buffer, Columns columns, std::vector<Region>& out, std::uint32_t layer = 0) const {
    out.push_back({buffer, layer, 0, program_.shape.n_rows(), columns.begin, columns.end});
  }
  void output_rows(Buffer buffer, Columns columns, std::vector<Region>& out) const {
    for (const std::uint32_t row : program_.shape.output_rows)
      out.push_back({buffer, 0, row, row + 1, columns.begin, columns.end});
  }
  void rows(bool is_last, Buffer buffer, Columns columns, std::vector<Region>& out) const {
    is_last ? output_rows(buffer, columns, out) : all_rows(buffer, columns, out);
  }

  void delta_net(const Op& op, std::vector<Region>& out) const {
    const model::ModelConfig& config = program_.config;
    const std::uint32_t spans = narrow(program_.shape.spans.size());
    all_rows(Buffer::kMixed, {0, narrow(config.value_dim())}, out);
    out.push_back({Buffer::kConvState, op.layer, 0, spans, 0, narrow(config.conv_dim())});
    out.push_back({Buffer::kDeltaState, op.layer, 0, spans, 0, narrow(config.n_value_heads)});
  }

  // Spans with several splits write partial sums, which are merged; the others are done at once.
  void attention(bool is_last, bool merged, std::vector<Region>& out) const {
    const std::uint32_t width = narrow(program_.config.query_dim());
    const std::uint32_t heads = narrow(program_.config.n_kv_heads);
    std::vector<Region> wanted;
    rows(is_last, Buffer::kMixed, {0, width}, wanted);
    for (std::uint32_t span = 0; span < program_.shape.spans.size(); ++span) {
      const std::uint32_t splits = program_.shape.spans[span].kv_splits;
      if (merged && splits == 1) continue;
      for (Region region : wanted) {
        region.row_begin = std::max(region.row_begin, program_.first_row[span]);
        region.row_end = std::min(region.row_end, program_.first_row[span + 1]);
        if (region.row_begin >= region.row_end) continue;
        if (splits > 1 && !merged) {
          region.buffer = Buffer::kPartial;
          region.col_end = splits * heads;
        }
        out.push_back(region);
      }
    }
  }

  const Program& program_;
};

class Verifier {
 public:
  explicit Verifier(const Program& program)
      : program_(program),
        n_tasks_(static_cast<std::uint32_t>(program.tasks.size())),
        n_counters_(program.counters.size()),
        expected_(program) {}

  std::string run() {
    if (auto problem = check_structure()) return *problem;
    collect_cells();
    reached_.assign(kSteps * n_counters_, 0);
    implied_.assign(kSteps * n_counters_, CounterSet(kSteps * n_counters_));
    for (std::uint32_t step = 0; step < kSteps; ++step) {
      for (std::uint32_t op = 0; op < program_.ops.size(); ++op)
        if (auto problem = run_op(step, op)) return *problem;
      for (std::size_t counter = 0; counter < n_counters_; ++counter) {
        const std::uint32_t seen = reached_[step * n_counters_ + counter];
        if (seen != program_.counters[counter])
          return fmt::format("counter {} is bumped {} times, its target is {}", counter, seen,
                             program_.counters[counter]);
      }
    }
    return {};
  }

 private:
  using Problem = std::optional<std::string>;

  // Rows, part and split name something that tasks of the op have.
  bool is_of_its_kind(const Task& task) const {
    const Op& op = program_.ops[task.op];
    const model::ModelConfig& config = program_.config;
    if (is_of_layer(op.kind) && (op.layer >= config.n_layers() || op.layer_kind != config.layers[op.layer]))
      return false;
    const bool is_delta_mix = op.kind == OpKind::kMix && op.layer_kind == LayerKind::kDeltaNet;
    if (is_delta_mix)
      return task.rows < program_.shape.spans.size() && task.part < config.n_key_heads && task.split == 0;
    if (is_of_output(op.kind))
      return task.rows < program_.shape.output_rows.size() && task.part == 0 && task.split == 0;
    if (task.rows >= program_.groups.size()) return false;
    const RowGroup& rows = program_.groups[task.rows];
    if (rows.begin >= rows.end || rows.end > program_.rows.size()) return false;
    if (is_of_head(op.kind) && rows.begin < program_.shape.n_rows()) return false;
    if (op.kind == OpKind::kEmbed) return task.part == 0 && task.split == 0;
    const bool is_attention =
        op.kind == OpKind::kKvAppend || op.kind == OpKind::kMix || op.kind == OpKind::kMixMerge;
    if (!is_attention)
      return op.tiling < program_.tilings.size() && task.part < program_.tilings[op.tiling].size() &&
             task.split == 0;
    const std::uint32_t span = program_.span_of_row(program_.rows[rows.begin]);
    const std::uint32_t n_splits = op.kind == OpKind::kMix ? program_.shape.spans[span].kv_splits : 1;
    return op.layer_kind == LayerKind::kAttention && task.part < config.n_kv_heads && task.split < n_splits;
  }

  Problem check_structure() const {
    std::uint32_t next = 0;
    for (std::uint32_t op = 0; op < program_.ops.size(); ++op) {
      if (program_.ops[op].first_task != next)
        return fmt::format("op {} does not begin at task {}", op, next);
      for (; next < program_.ops[op].first_task + program_.ops[op].n_tasks; ++next)
        if (next >= n_tasks_ || program_.tasks[next].op != op)
          return fmt::format("task {} is not of op {}", next, op);
    }
    if (next != n_tasks_) return fmt::format("{} tasks belong to no op", n_tasks_ - next);
    for (std::uint32_t task = 0; task < n_tasks_; ++task) {
      const Task& it = program_.tasks[task];
      if (!is_of_its_kind(it)) return fmt::format("{} is no task of that op", describe(program_, it));
      if (it.signal >= n_counters_) return fmt::format("task {} signals counter {}", task, it.signal);
      if (it.first_wait > program_.waits.size() || it.n_waits > program_.waits.size() - it.first_wait)
        return fmt::format("task {} has waits outside the list", task);
      for (const Wait& wait : waits_of(it))
        if (wait.counter >= n_counters_ || wait.target > program_.counters[wait.counter])
          return fmt::format("task {} waits for {} of counter {}", task, wait.target, wait.counter);
    }
    return std::nullopt;
  }

  std::span<const Wait> waits_of(const Task& task) const {
    return std::span(program_.waits).subspan(task.first_wait, task.n_waits);
  }

  Cells& cells_of(const Region& region) {
    return buffers_[{static_cast<std::uint32_t>(region.buffer), region.layer}];
  }

  // The regions of a task in one of the steps. The KV cache grows: a step's rows stand behind those of the steps before,
  // all of which a span's tasks read.
  void access_of(std::uint32_t step, std::uint32_t task) {
    regions_of(program_, program_.tasks[task], access_);
    const std::uint32_t n_rows = program_.shape.n_rows();
    const std::size_t n_reads = access_.reads.size();
    for (std::size_t i = 0; i < n_reads; ++i) {
      if (access_.reads[i].buffer != Buffer::kKeyValue) continue;
      const std::uint32_t span = program_.span_of_row(access_.reads[i].row_begin);
      for (std::uint32_t past = 0; past < step; ++past) {
        Region region = access_.reads[i];
        region.row_begin = past * n_rows + program_.first_row[span];
        region.row_end = past * n_rows + program_.first_row[span + 1];
        access_.reads.push_back(region);
      }
      shift(access_.reads[i], step * n_rows);
    }
    for (Region& region : access_.writes)
      if (region.buffer == Buffer::kKeyValue) shift(region, step * n_rows);
  }

  static void shift(Region& region, std::uint32_t rows) {
    region.row_begin += rows;
    region.row_end += rows;
  }

  void collect_cells() {
    const auto add = [this](const Region& region) {
      Cells& cells = cells_of(region);
      cells.row_edges.insert(cells.row_edges.end(), {region.row_begin, region.row_end});
      cells.col_edges.insert(cells.col_edges.end(), {region.col_begin, region.col_end});
    };
    for (std::uint32_t step = 0; step < kSteps; ++step) {
      for (std::uint32_t task = 0; task < n_tasks_; ++task) {
        access_of(step, task);
        for (const Region& region : access_.reads) add(region);
        for (const Region& region : access_.writes) add(region);
      }
      for (const Op& op : program_.ops)
        for (const Region& region : wanted_of(op, step)) add(region);
    }
    for (auto& [key, cells] : buffers_) cells.finish();
  }

  std::vector<Region> wanted_of(const Op& op, std::uint32_t step) const {
    std::vector<Region> wanted = expected_.of(op);
    for (Region& region : wanted)
      if (region.buffer == Buffer::kKeyValue) shift(region, step * program_.shape.n_rows());
    return wanted;
  }

  Problem run_op(std::uint32_t step, std::uint32_t op) {
    const Op& it = program_.ops[op];
    n_written_ = 0;
    for (std::uint32_t task = it.first_task; task < it.first_task + it.n_tasks; ++task)
      if (auto problem = run_task(step, task)) return problem;
    // Every cell that the op had to write carries its mark, and it marked no more than those.
    const std::uint32_t instance = step * static_cast<std::uint32_t>(program_.ops.size()) + op;
    std::size_t n_wanted = 0;
    Problem problem;
    for (const Region& region : wanted_of(it, step)) {
      cells_of(region).for_each(region, [&](const Cells::Cell& cell, std::size_t, std::size_t) {
        ++n_wanted;
        if (cell.op_instance != instance && !problem)
          problem = fmt::format("{} of layer {} leaves part of {} unwritten", name_of(it.kind), it.layer,
                                text_of(region));
      });
    }
    if (!problem && n_wanted != n_written_)
      problem = fmt::format("{} of layer {} writes outside its output", name_of(it.kind), it.layer);
    return problem;
  }

  Problem run_task(std::uint32_t step, std::uint32_t task) {
    const Task& it = program_.tasks[task];
    CounterSet known(kSteps * n_counters_);
    for (const Wait& wait : waits_of(it)) {
      if (wait.previous_step && step == 0) continue;
      const std::size_t counter = (wait.previous_step ? step - 1 : step) * n_counters_ + wait.counter;
      if (reached_[counter] < wait.target)
        return fmt::format("{} waits for {} of counter {}, which has {} when its turn comes",
                           describe(program_, it), wait.target, wait.counter, reached_[counter]);
      if (wait.target != program_.counters[wait.counter]) continue;
      known.insert(counter);
      known.insert(implied_[counter]);
    }
    access_of(step, task);
    const std::uint32_t instance = step * n_tasks_ + task;
    for (const Region& region : access_.reads)
      if (auto problem = read(region, step, instance, known)) return problem;
    for (const Region& region : access_.writes)
      if (auto problem = write(region, step, instance, known)) return problem;

    const std::size_t signal = step * n_counters_ + it.signal;
    if (++reached_[signal] > program_.counters[it.signal])
      return fmt::format("{} bumps counter {} above its target", describe(program_, it), it.signal);
    implied_[signal].insert(known);
    return std::nullopt;
  }

  bool is_before(std::uint32_t earlier, const CounterSet& known) const {
    const std::uint32_t signal = program_.tasks[earlier % n_tasks_].signal;
    return known.contains(earlier / n_tasks_ * n_counters_ + signal);
  }

  static bool is_activation(Buffer buffer) { return !is_per_layer(buffer) && buffer != Buffer::kTokens; }

  Problem read(const Region& region, std::uint32_t step, std::uint32_t instance, const CounterSet& known) {
    Problem problem;
    cells_of(region).for_each(region, [&](Cells::Cell& cell, std::size_t, std::size_t) {
      if (problem) return;
      const bool is_new = cell.writer != kNone && cell.writer / n_tasks_ == step;
      if (is_activation(region.buffer) && !is_new) {
        problem =
            fmt::format("{} reads {} before the step wrote it", name_of_instance(instance), text_of(region));
      } else if (cell.writer != kNone && !is_before(cell.writer, known)) {
        problem = conflict(cell.writer, "writes", instance, "reads", region);
      }
      cell.readers.push_back(instance);
    });
    return problem;
  }

  Problem write(const Region& region, std::uint32_t step, std::uint32_t instance, const CounterSet& known) {
    const std::uint32_t op_instance =
        step * static_cast<std::uint32_t>(program_.ops.size()) + program_.tasks[instance % n_tasks_].op;
    Problem problem;
    cells_of(region).for_each(region, [&](Cells::Cell& cell, std::size_t, std::size_t) {
      if (problem) return;
      if (cell.op_instance == op_instance) {
        problem = fmt::format("{} writes {} a second time", name_of_instance(instance), text_of(region));
        return;
      }
      if (cell.writer != kNone && !is_before(cell.writer, known))
        problem = conflict(cell.writer, "writes", instance, "writes", region);
      for (const std::uint32_t reader : cell.readers)
        if (reader != instance && !problem && !is_before(reader, known))
          problem = conflict(reader, "reads", instance, "writes", region);
      cell.writer = instance;
      cell.op_instance = op_instance;
      cell.readers.clear();
      ++n_written_;
    });
    return problem;
  }

  std::string name_of_instance(std::uint32_t instance) const {
    return fmt::format("{} (step {})", describe(program_, program_.tasks[instance % n_tasks_]),
                       instance / n_tasks_);
  }

  static std::string text_of(const Region& region) {
    return fmt::format("{}{}[{}:{}, {}:{}]", name_of(region.buffer),
                       is_per_layer(region.buffer) ? fmt::format(" {} ", region.layer) : "", region.row_begin,
                       region.row_end, region.col_begin, region.col_end);
  }

  std::string conflict(std::uint32_t earlier, std::string_view how, std::uint32_t later,
                       std::string_view then, const Region& region) const {
    return fmt::format("nothing orders {}, which {} {}, before {}, which {} it", name_of_instance(earlier),
                       how, text_of(region), name_of_instance(later), then);
  }

  const Program& program_;
  std::uint32_t n_tasks_;
  std::size_t n_counters_;
  Expected expected_;
  Access access_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Cells> buffers_;  // by buffer and layer
  std::vector<std::uint32_t> reached_;                                // [steps, counters]
  std::vector<CounterSet> implied_;  // [steps, counters]  what is certain once the counter has its target
  std::size_t n_written_ = 0;        // cells, by the op that runs
};

bool conflict(const Access& a, const Access& b) {
  const auto any = [](const std::vector<Region>& some, const std::vector<Region>& others) {
    return std::any_of(some.begin(), some.end(), [&](const Region& one) {
      return std::any_of(others.begin(), others.end(),
                         [&](const Region& other) { return overlap(one, other); });
    });
  };
  return any(a.writes, b.reads) || any(a.writes, b.writes) || any(a.reads, b.writes);
}

}  // namespace

std::string verify(const Program& program) {
  return Verifier(program).run();
}

void require_valid(const Program& program) {
  if (const std::string problem = verify(program); !problem.empty())
    throw Error("the step's Program is not safe to run: " + problem, "SLUICE_VERIFY", "please report this");
}

std::vector<std::uint32_t> coarse_waits(const Program& program) {
  std::vector<std::vector<std::uint32_t>> signalers(program.counters.size());
  for (std::uint32_t task = 0; task < program.tasks.size(); ++task)
    signalers[program.tasks[task].signal].push_back(task);
  std::vector<std::uint32_t> coarse;
  Access waiting;
  Access signaling;
  for (const Task& task : program.tasks) {
    regions_of(program, task, waiting);
    for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i) {
      if (program.waits[i].previous_step) continue;
      for (const std::uint32_t other : signalers[program.waits[i].counter]) {
        regions_of(program, program.tasks[other], signaling);
        if (conflict(signaling, waiting)) continue;
        coarse.push_back(i);
        break;
      }
    }
  }
  return coarse;
}

std::string describe(const Program& program, const Task& task) {
  const Op& op = program.ops[task.op];
  std::string text(name_of(op.kind));
  if (is_of_output(op.kind)) return fmt::format("{} of output {}", text, task.rows);
  if (is_of_layer(op.kind)) text += fmt::format(" of layer {}", op.layer);
  if (op.kind == OpKind::kMix && op.layer_kind == LayerKind::kDeltaNet)
    return text + fmt::format(", span {}, K head {}", task.rows, task.part);
  const RowGroup& group = program.groups[task.rows];
  text += fmt::format(", rows {}-{}", program.rows[group.begin], program.rows[group.end - 1]);
  switch (op.kind) {
    case OpKind::kEmbed:
      return text;
    case OpKind::kKvAppend:
    case OpKind::kMix:
    case OpKind::kMixMerge:
      return text + fmt::format(", KV head {}, split {}", task.part, task.split);
    default:
      return text + fmt::format(", tile {}", task.part);
  }
}

}  // namespace sluice::program
