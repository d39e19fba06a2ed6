#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "program/report.h"

namespace sluice::program {
namespace {

using model::LayerKind;

bool is_of_layer(const Op& op) {
  return program::is_of_layer(op.kind);
}

std::string_view name_of(LayerKind kind) {
  return kind == LayerKind::kDeltaNet ? "DeltaNet" : "attention";
}

std::string row(std::string_view name, std::size_t tasks, std::size_t counters, std::size_t waits,
                const OpCost& cost) {
  return fmt::format("{:<14} {:>7} {:>9} {:>8} {:>12} {:>11} {:>11} {:>15}\n", name, tasks, counters, waits,
                     cost.weight_bytes, cost.state_bytes, cost.kv_bytes, cost.flops);
}

// Ops of one layer, or one that is of none.
struct Block {
  std::vector<std::uint32_t> layers;  // that are equal
  std::vector<const OpReport*> ops;   // of the first
};

bool is_equal(const OpReport& a, const OpReport& b) {
  return a.op.kind == b.op.kind && a.op.layer_kind == b.op.layer_kind && a.op.n_tasks == b.op.n_tasks &&
         a.n_counters == b.n_counters && a.n_waits == b.n_waits && a.cost == b.cost;
}

std::vector<Block> blocks_of(const Report& report) {
  std::vector<Block> blocks;
  for (auto begin = report.ops.begin(); begin != report.ops.end();) {
    auto end = begin + 1;
    while (end != report.ops.end() && is_of_layer(begin->op) && is_of_layer(end->op) &&
           end->op.layer == begin->op.layer)
      ++end;
    const auto known = std::find_if(blocks.begin(), blocks.end(), [&](const Block& block) {
      return std::equal(begin, end, block.ops.begin(), block.ops.end(),
                        [](const OpReport& a, const OpReport* b) { return is_equal(a, *b); });
    });
    const bool is_new = known == blocks.end();
    Block& block = is_new ? blocks.emplace_back() : *known;
    if (is_of_layer(begin->op)) block.layers.push_back(begin->op.layer);
    if (is_new)
      for (auto op = begin; op != end; ++op) block.ops.push_back(&*op);
    begin = end;
  }
  return blocks;
}

// "0-2, 4-6, 8"
std::string ranges_text(const std::vector<std::uint32_t>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", numbers[i]);
    if (end > i + 1) text += fmt::format("-{}", numbers[end - 1]);
    i = end;
  }
  return text;
}

// Which ops are drawn: those of the first layer of each kind, and those of none.
std::vector<std::uint32_t> drawn_ops(const Program& program) {
  const std::vector<LayerKind>& kinds = program.config.layers;
  std::vector<std::uint32_t> drawn;
  for (std::uint32_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const auto first = std::find(kinds.begin(), kinds.end(), op.layer_kind);
    if (!is_of_layer(op) || op.layer == static_cast<std::uint32_t>(first - kinds.begin())) drawn.push_back(i);
  }
  return drawn;
}

using Arrow = std::pair<std::uint32_t, std::uint32_t>;    // from op, to op
using Counters = std::map<std::uint32_t, std::uint32_t>;  // counter → what it counts to

std::map<Arrow, Counters> arrows_of(const Program& program) {
  std::vector<std::set<std::uint32_t>> signaling(program.counters.size());  // ops whose tasks bump it
  for (const Task& task : program.tasks) signaling[task.signal].insert(task.op);
  std::map<Arrow, Counters> arrows;
  for (const Task& task : program.tasks) {
    for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i) {
      const Wait& wait = program.waits[i];
      if (wait.previous_step) continue;
      for (const std::uint32_t op : signaling[wait.counter])
        arrows[{op, task.op}][wait.counter] = wait.target;
    }
  }
  return arrows;
}

std::string label_of(const Counters& counters) {
  const auto [least, most] = std::minmax_element(
      counters.begin(), counters.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return fmt::format("{} × {}{}", counters.size(), least->second,
                     least->second == most->second ? "" : fmt::format("-{}", most->second));
}

class Drawing {
 public:
  explicit Drawing(const Program& program)
      : program_(program), drawn_(drawn_ops(program)), arrows_(arrows_of(program)) {}

  std::string text() const {
    std::string text =
        "digraph program {\n"
        "  node [shape=box, fontname=\"sans-serif\", fontsize=11, height=0.4];\n"
        "  edge [fontname=\"sans-serif\", fontsize=9];\n"
        "  graph [fontname=\"sans-serif\", fontsize=11, style=dotted, ranksep=0.3];\n";
    for (auto begin = drawn_.begin(); begin != drawn_.end();) {
      const auto end = std::find_if(begin, drawn_.end(),
                                    [&](std::uint32_t op) { return place_of(op) != place_of(*begin); });
      text += cluster({begin, end});
      begin = end;
    }
    for (const auto& [arrow, counters] : arrows_)
      if (is_drawn(arrow.first) && is_drawn(arrow.second))
        text +=
            fmt::format("  op{} -> op{} [label=\" {}\"];\n", arrow.first, arrow.second, label_of(counters));
    return text + gaps() + "}\n";
  }

 private:
  bool is_drawn(std::uint32_t op) const { return std::binary_search(drawn_.begin(), drawn_.end(), op); }

  // Ops of one place stand in one frame: a layer, what is before, or what is behind all layers.
  std::pair<bool, std::uint32_t> place_of(std::uint32_t op) const {
    const Op& it = program_.ops[op];
    const auto beyond = static_cast<std::uint32_t>(program_.config.n_layers());
    if (is_of_layer(it)) return {true, it.layer};
    return {false, it.kind == OpKind::kEmbed ? 0 : beyond};
  }

  std::string cluster(const std::vector<std::uint32_t>& ops) const {
    const Op& first = program_.ops[ops.front()];
    const std::string title =
        is_of_layer(first) ? fmt::format("layer {}: {}", first.layer, name_of(first.layer_kind)) : "";
    std::string text = fmt::format("  subgraph cluster_{} {{\n    label=\"{}\";\n", ops.front(), title);
    if (!is_of_layer(first)) text += "    peripheries=0;\n";
    for (const std::uint32_t op : ops) {
      const Op& it = program_.ops[op];
      text += fmt::format("    op{} [label=\"{}\\n{} task{}\"];\n", op, program::name_of(it.kind), it.n_tasks,
                          it.n_tasks == 1 ? "" : "s");
    }
    return text + "  }\n";
  }

  // From frame to frame where layers in between are left out.
  std::string gaps() const {
    std::string text;
    for (std::size_t i = 1; i < drawn_.size(); ++i) {
      if (place_of(drawn_[i]) == place_of(drawn_[i - 1]) || drawn_[i] == drawn_[i - 1] + 1) continue;
      text += fmt::format("  op{} -> op{} [style=dashed, constraint=false];\n", drawn_[i - 1], drawn_[i]);
    }
    return text;
  }

  const Program& program_;
  std::vector<std::uint32_t> drawn_;
  std::map<Arrow, Counters> arrows_;
};

}  // namespace

std::string text_of(const Report& report) {
  std::string text = fmt::format("{:<14}{:>8}{:>10}{:>9}{:>13}{:>12}{:>12}{:>16}\n", "op", "tasks",
                                 "counters", "waits", "weights B", "state B", "KV B", "FLOP");
  for (const Block& block : blocks_of(report)) {
    if (!block.layers.empty())
      text += fmt::format("{} layer{}: {}{}\n", name_of(block.ops.front()->op.layer_kind),
                          block.layers.size() == 1 ? "" : "s", ranges_text(block.layers),
                          block.layers.size() == 1 ? "" : fmt::format(" ({}), each", block.layers.size()));
    for (const OpReport* op : block.ops)
      text += row(fmt::format("{}{}", block.layers.empty() ? "" : "  ", program::name_of(op->op.kind)),
                  op->op.n_tasks, op->n_counters, op->n_waits, op->cost);
  }
  text += row("together", report.n_tasks, report.n_counters, report.n_waits, report.cost);
  text += fmt::format("{} ops, longest chain {} tasks\n", report.ops.size(), report.longest_chain);
  if (!report.unsafe.empty()) return text + fmt::format("NOT SAFE: {}\n", report.unsafe);
  text += "verified: the waits order every two tasks that touch the same data\n";
  text += fmt::format("waits coarser than the data asks: {}\n", report.coarse.size());
  for (const std::string& wait : report.coarse) text += fmt::format("  {}\n", wait);
  return text;
}

std::string dot_of(const Program& program) {
  return Drawing(program).text();
}

}  // namespace sluice::program
