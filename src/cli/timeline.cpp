#include "cli/timeline.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "cpu/statistics.h"

namespace sluice::cli {
namespace {

using program::Op;
using program::OpKind;
using program::Program;

// Pixels.
constexpr double kWidth = 1200;
constexpr double kLeft = 84;
constexpr double kRight = 24;
constexpr double kPlot = kWidth - kLeft - kRight;
constexpr double kRow = 17;  // a worker's row
constexpr double kRowGap = 3;
constexpr double kAxis = 32;  // above the rows of a line: layers' names, then ticks
constexpr double kLineGap = 12;

constexpr double kNanoPerMicro = 1e3;

// By OpKind; apart from each other and from the waits' red also for the colour-blind, on white and on black.
constexpr std::array kColours = {
    "#8c6d46",  // embed
    "#3b7dc4",  // mix_in
    "#c774b1",  // kv_append
    "#e09a1f",  // mix
    "#b5a642",  // mix_merge
    "#2aa198",  // mix_out
    "#6b9e3f",  // mlp_in
    "#8a6fc0",  // mlp_out
    "#7d8794",  // head
    "#93a0b0",  // skim: in the place of head
    "#7d8794",  // screen
    "#5b8a8a",  // select
    "#b06a5c",  // recompute
    "#4c5560",  // sample
};
static_assert(kColours.size() == cpu::kOpKinds);
constexpr const char* kWaitColour = "#e0311f";

// What workers did in all: nanoseconds and bytes.
struct Shares {
  std::array<double, cpu::kOpKinds> busy{};
  std::array<std::size_t, cpu::kOpKinds> bytes{};
  double waiting = 0;
  double rest = 0;  // without a task
};

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string grouped(double value) {  // 31,234
  const std::string digits = fmt::format("{:.0f}", value);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string time_text(double nanoseconds) {
  return nanoseconds < 1e6 ? fmt::format("{:.1f} µs", nanoseconds / kNanoPerMicro)
                           : fmt::format("{:.2f} ms", nanoseconds / 1e6);
}

std::string amount_text(std::size_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes == 0    ? "–"
         : value < 1e6 ? fmt::format("{:.1f} kB", value / 1e3)
                       : fmt::format("{:.1f} MB", value / 1e6);
}

class Picture {
 public:
  Picture(const cpu::StepTimes& step, const model::Weights& weights, const TimelineFacts& facts)
      : step_(step),
        program_(*step.program),
        facts_(facts),
        n_workers_(static_cast<double>(facts.n_workers)),
        duration_(std::max(step.end - step.begin, 1.0)),
        shares_(shares(weights)) {
    // Lines like those of a text, so that tasks are wide enough to be seen.
    constexpr double kTasksInLine = 120;  // of a worker
    constexpr double kMostRows = 24;
    const double wanted = static_cast<double>(program_.tasks.size()) / n_workers_ / kTasksInLine;
    const double most = std::clamp(std::floor(kMostRows / n_workers_), 1.0, 8.0);
    n_lines_ = static_cast<std::size_t>(std::clamp(std::ceil(wanted), 1.0, most));
  }

  std::string svg() {
    double y = head();
    for (std::size_t line = 0; line < n_lines_; ++line) y = draw_line(line, y);
    y = draw_shares(y + 8);
    return fmt::format(
               R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1:.0f}" viewBox="0 0 {0} {1:.0f}" role="img">)"
               "\n<title>{2}</title>\n{3}",
               kWidth, y, escaped(facts_.title), style()) +
           body_ + "</svg>\n";
  }

 private:
  static std::string style() {
    std::string css =
        "text{font-family:system-ui,'DejaVu "
        "Sans',sans-serif;font-size:12px;fill:#1b1f24}.big{font-size:18px;font-weight:600}"
        ".dim{fill:#59636e}.bold{font-weight:600}.end{text-anchor:end}.mid{text-anchor:middle}.page{fill:#"
        "ffffff}"
        ".row{fill:#eef1f4}.tick{stroke:#9aa4af;stroke-width:1;fill:none}.floor{fill:#9aa4af}";
    for (std::size_t kind = 0; kind < cpu::kOpKinds; ++kind)
      css += fmt::format(".o{}{{fill:{}}}", kind, kColours[kind]);
    css += fmt::format(".wait{{fill:{}}}", kWaitColour);
    css +=
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9aa7b4}.page{fill:#11151a}.row{fill:#"
        "232a32}"
        ".tick{stroke:#6b7682}.floor{fill:#6b7682}}";
    return "<style>" + css + "</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n";
  }

  std::size_t kind_of(std::uint32_t task) const {
    return static_cast<std::size_t>(program_.ops[program_.tasks[task].op].kind);
  }

  Shares shares(const model::Weights& weights) const {
    Shares shares;
    shares.rest = duration_ * n_workers_;
    for (const cpu::TaskTimes& it : step_.tasks) {
      shares.busy[kind_of(it.task)] += it.end - it.begin;
      shares.waiting += it.begin - it.waited_from;
      shares.rest -= it.end - it.waited_from;
    }
    const std::vector<std::size_t> bytes = cpu::bytes_moved(step_, weights);
    for (std::uint32_t task = 0; task < bytes.size(); ++task) shares.bytes[kind_of(task)] += bytes[task];
    return shares;
  }

  void text(double x, double y, std::string_view classes, std::string_view what) {
    body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}>{}</text>\n", x, y,
                         classes.empty() ? "" : fmt::format(" class=\"{}\"", classes), escaped(what));
  }

  void rect(double x, double y, double width, double height, std::string_view classes) {
    body_ +=
        fmt::format("<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" class=\"{}\"/>\n", x,
                    y, width, height, classes);
  }

  double head() {
    text(kLeft, 32, "big", facts_.title);
    const double reached = facts_.floor_seconds * 1e9 / duration_;
    text(kLeft, 53, "dim", facts_.subtitle);
    text(
        kLeft, 72, "",
        fmt::format(
            "{} in one dispatch: {} tasks on {} worker{}; {:.0f} % of the floor. Read like a text: each line "
            "goes on where the one above it ends.",
            time_text(duration_), grouped(static_cast<double>(program_.tasks.size())), facts_.n_workers,
            facts_.n_workers == 1 ? "" : "s", 100 * reached));
    double x = kLeft;
    double y = 85;
    const auto entry = [&](std::string_view classes, std::string_view what) {
      constexpr double kCharacter = 6.8;
      const double width = 17 + kCharacter * static_cast<double>(what.size());
      if (x + width > kWidth - kRight) {
        x = kLeft;
        y += 18;
      }
      rect(x, y, 12, 12, classes);
      text(x + 17, y + 10.5, "", what);
      x += width + 16;
    };
    for (std::size_t kind = 0; kind < cpu::kOpKinds; ++kind)
      if (shares_.busy[kind] > 0)
        entry(fmt::format("o{}", kind), program::name_of(static_cast<OpKind>(kind)));
    entry("wait", "waiting for inputs");
    entry("row", "without a task");
    return y + 27;
  }

  // Where time `t` of the step (ns) lies in a line that begins at `from`.
  double x_of(double t, double from) const { return kLeft + (t - from) / line_time() * kPlot; }
  double line_time() const { return duration_ / static_cast<double>(n_lines_); }

  double draw_line(std::size_t line, double y) {
    const double from = static_cast<double>(line) * line_time();
    const double to = from + line_time();
    draw_layers(from, to, y + 11);
    draw_ticks(from, to, y + kAxis - 5, line == 0);
    y += kAxis;
    for (std::size_t worker = 0; worker < facts_.n_workers; ++worker) {
      if (facts_.n_workers <= 4 || worker % 4 == 0)
        text(kLeft - 10, y + 13, "end dim", fmt::format("worker {}", worker));
      rect(kLeft, y, kPlot, kRow, "row");
      draw_tasks(worker, from, to, y);
      y += kRow + kRowGap;
    }
    return y + kLineGap - kRowGap;
  }

  void draw_ticks(double from, double to, double y, bool is_first) {
    const double most = line_time() / kNanoPerMicro / 8;
    double step = std::pow(10, std::floor(std::log10(most)));
    for (const double factor : {5.0, 2.0})
      if (step * factor <= most * 1.3) {
        step *= factor;
        break;
      }
    if (is_first) text(kLeft - 10, y, "end dim", "time, µs");
    for (double t = std::ceil(from / kNanoPerMicro / step) * step; t * kNanoPerMicro < to; t += step) {
      const double x = x_of(t * kNanoPerMicro, from);
      if (x > kWidth - kRight - 30) continue;
      body_ += fmt::format("<path class=\"tick\" d=\"M{:.1f} {:.1f}v13\"/>\n", x, y - 9);
      text(x + 3, y, "dim", step < 1 ? fmt::format("{:.1f}", t) : grouped(t));
    }
  }

  // Names where each layer and the head begin, as far as there is room.
  void draw_layers(double from, double to, double y) {
    std::vector<double> begins(program_.ops.size(), duration_);
    for (const cpu::TaskTimes& it : step_.tasks) {
      double& begin = begins[program_.tasks[it.task].op];
      begin = std::min(begin, it.begin - step_.begin);
    }
    double free = kLeft;
    for (std::size_t i = 0; i < program_.ops.size(); ++i) {
      const Op& op = program_.ops[i];
      const bool is_head = op.kind == OpKind::kHead || op.kind == OpKind::kSkim;
      if ((op.kind != OpKind::kMixIn && !is_head) || begins[i] < from || begins[i] >= to) continue;
      const std::string name =
          is_head ? "head"
                  : fmt::format("layer {} {}", op.layer,
                                op.layer_kind == model::LayerKind::kDeltaNet ? "DeltaNet" : "attention");
      constexpr double kCharacter = 6.6;
      const double width = kCharacter * static_cast<double>(name.size()) + 10;
      const double at = x_of(begins[i], from);
      const double x = at + width <= kWidth - kRight ? at : at - width;  // beside its tick
      if (x < free) continue;
      body_ += fmt::format("<path class=\"tick\" d=\"M{:.1f} {:.1f}v8\"/>\n", at, y - 7);
      text(x + 4, y, "bold", name);
      free = x + width;
    }
  }

  // A path for each op, which is far smaller than a rectangle for each task.
  void draw_tasks(std::size_t worker, double from, double to, double y) {
    std::array<std::string, cpu::kOpKinds + 1> paths;
    const auto add = [&](std::size_t path, double begin, double end, double gap) {
      begin = std::max(begin - step_.begin, from);
      end = std::min(end - step_.begin, to);
      if (begin >= end) return;
      const double x = x_of(begin, from);
      const double width = x_of(end, from) - x;
      constexpr double kVisible = 0.03;
      if (width < kVisible) return;
      paths[path] += fmt::format("M{:.2f} {:.0f}h{:.2f}v{:.0f}H{:.2f}z", x, y,
                                 width > 4 * gap ? width - gap : width, kRow, x);
    };
    constexpr double kBetweenTasks = 0.4;  // px: a hairline between tasks of an op
    for (const cpu::TaskTimes& it : step_.tasks) {
      if (it.worker != worker) continue;
      add(cpu::kOpKinds, it.waited_from, it.begin, 0);
      add(kind_of(it.task), it.begin, it.end, kBetweenTasks);
    }
    for (std::size_t path = 0; path < paths.size(); ++path)
      if (!paths[path].empty())
        body_ += fmt::format("<path class=\"{}\" d=\"{}\"/>\n",
                             path == cpu::kOpKinds ? "wait" : fmt::format("o{}", path), paths[path]);
  }

  // Two bars on one scale, the step by op and its floor; then a table.
  double draw_shares(double y) {
    const double all = duration_ * n_workers_;
    const double floor = facts_.floor_seconds * 1e9;
    const double scale = kPlot / std::max(duration_, floor);
    text(kLeft, y + 12, "bold",
         "Where the workers' time goes, and below it the time that the machine would need at least");
    y += 22;
    text(kLeft - 10, y + 15, "end", time_text(duration_));
    rect(kLeft, y, duration_ * scale, 22, "row");
    double x = kLeft;
    const auto part = [&](double nanoseconds, std::string_view classes, std::string_view name) {
      const double width = nanoseconds / n_workers_ * scale;
      if (width <= 0) return;
      rect(x, y, width, 22, classes);
      constexpr double kCharacter = 7.5;
      if (width > kCharacter * static_cast<double>(name.size()) + 6)
        body_ +=
            fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"mid bold\" style=\"fill:#fff\">{}</text>\n",
                        x + width / 2, y + 15, name);
      x += width;
    };
    for (std::size_t kind = 0; kind < cpu::kOpKinds; ++kind)
      part(shares_.busy[kind], fmt::format("o{}", kind), program::name_of(static_cast<OpKind>(kind)));
    part(shares_.waiting, "wait", "waiting");
    if (const double end = kLeft + duration_ * scale; end - x > 95)
      text(end - 6, y + 15, "end dim", "without a task");
    y += 27;
    text(kLeft - 10, y + 15, "end", time_text(floor));
    rect(kLeft, y, floor * scale, 22, "floor");
    const std::string what = "floor: " + facts_.floor;
    constexpr double kBold = 7.5;  // px a character
    if (kBold * static_cast<double>(what.size()) + 16 < floor * scale) {
      body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"bold\" style=\"fill:#fff\">{}</text>\n",
                           kLeft + 8, y + 15, escaped(what));
    } else {
      text(kLeft + floor * scale + 8, y + 15, "bold", what);  // beside a short bar
    }
    return draw_table(y + 40, all);
  }

  double draw_table(double y, double all) {
    constexpr std::array<double, 6> kColumns = {kLeft + 17,  kLeft + 240, kLeft + 350,
                                                kLeft + 460, kLeft + 590, kLeft + 720};
    constexpr std::array<const char*, 6> kNames = {"op",    "share", "time a worker",
                                                   "tasks", "moves", "that is"};
    for (std::size_t i = 0; i < kNames.size(); ++i)
      text(kColumns[i], y, i == 0 ? "dim" : "dim end", kNames[i]);
    std::array<std::size_t, cpu::kOpKinds> tasks{};
    for (std::uint32_t task = 0; task < program_.tasks.size(); ++task) ++tasks[kind_of(task)];
    const auto row = [&](std::string_view classes, std::string_view name, double nanoseconds,
                         std::string_view n, std::string_view bytes, std::string_view rate) {
      y += 18;
      rect(kLeft, y - 10, 12, 12, classes);
      text(kColumns[0], y, "", name);
      text(kColumns[1], y, "end", fmt::format("{:.1f} %", 100 * nanoseconds / all));
      text(kColumns[2], y, "end", time_text(nanoseconds / n_workers_));
      text(kColumns[3], y, "end", n);
      text(kColumns[4], y, "end", bytes);
      text(kColumns[5], y, "end", rate);
    };
    std::size_t moved = 0;
    for (std::size_t kind = 0; kind < cpu::kOpKinds; ++kind) {
      const double busy = shares_.busy[kind];
      const std::size_t bytes = shares_.bytes[kind];
      moved += bytes;
      if (busy <= 0) continue;
      // While it computes; other workers may do something else meanwhile.
      const double rate = static_cast<double>(bytes) / busy * n_workers_;
      row(fmt::format("o{}", kind), program::name_of(static_cast<OpKind>(kind)), busy,
          grouped(static_cast<double>(tasks[kind])), amount_text(bytes),
          bytes == 0 ? "–" : fmt::format("{:.1f} GB/s", rate));
    }
    row("wait", "waiting for inputs", shares_.waiting, "", "", "");
    row("row", "without a task", shares_.rest, "", "", "");
    row("page", "together", all, grouped(static_cast<double>(program_.tasks.size())), amount_text(moved),
        fmt::format("{:.1f} GB/s", static_cast<double>(moved) / duration_));
    return y + 24;
  }

  const cpu::StepTimes& step_;
  const Program& program_;
  const TimelineFacts& facts_;
  double n_workers_;
  double duration_;  // ns
  Shares shares_;
  std::size_t n_lines_ = 1;
  std::string body_;
};

}  // namespace

std::string timeline_svg(const cpu::StepTimes& step, const model::Weights& weights,
                         const TimelineFacts& facts) {
  return Picture(step, weights, facts).svg();
}

cpu::StepTimes median_step(const cpu::Trace& trace) {
  std::vector<cpu::StepTimes> steps;
  for (std::size_t i = 0; i < trace.n_kept(); ++i) steps.push_back(trace.step(i));
  const auto middle = steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
  std::ranges::nth_element(steps, middle, {},
                           [](const cpu::StepTimes& step) { return step.end - step.begin; });
  return *middle;
}

}  // namespace sluice::cli
