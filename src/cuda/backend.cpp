#include "cuda/backend.h"

#include <algorithm>
#include <list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "cuda/build.h"
#include "cuda/context.h"
#include "cuda/device_model.h"
#include "cuda/plan.h"
#include "cuda/sequences.h"
#include "program/builder.h"

namespace sluice::cuda {
namespace {

// Ops of a decode launch: embed, up to seven of a layer, head, sample.
std::size_t most_ops(const model::ModelConfig& config) {
  constexpr std::size_t kOfLayer = 8;
  constexpr std::size_t kOthers = 4;
  return kOfLayer * config.layers.size() + kOthers;
}

std::string gigabytes(std::size_t bytes) {
  constexpr double kGiga = 1e9;
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) / kGiga);
}

std::span<const std::byte> image_of(const CudaOptions& options) {
  if (!options.image.empty()) return options.image;
  if (!is_built_in())
    throw Error(fmt::format("CUDA isn't built into this program: {}", why_not_built_in()), "--device",
                "use --device cpu");
  return fat_binary();
}

// The rows of one launch as the device takes them.
struct LaunchInput {
  std::vector<Row> rows;
  std::vector<Span> spans;
  std::vector<Edit> edits;
};

void set_choice(const program::Choice& choice, Row& row, std::vector<Edit>& edits) {
  row.choice = choice_kind(choice);
  row.temperature = choice.sampling.temperature;
  row.top_p = choice.sampling.top_p;
  row.min_p = choice.sampling.min_p;
  row.top_k = static_cast<std::uint32_t>(std::min<std::size_t>(choice.sampling.top_k, kNone - 1));
  row.seed = choice.sampling.seed;
  row.draw = choice.draw;
  row.n_tokens = static_cast<std::uint32_t>(choice.n_tokens);
  row.first_edit = static_cast<std::uint32_t>(edits.size());
  row.n_edits = static_cast<std::uint32_t>(choice.edits.size());
  for (const program::LogitEdit& edit : choice.edits) edits.push_back({edit.token, edit.repeat, edit.add});
}

// A part of a step that is one launch: consecutive rows.
program::Step part_of(const program::Step& step, std::size_t begin, std::size_t end) {
  program::Step part;
  part.tokens.assign(step.tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                     step.tokens.begin() + static_cast<std::ptrdiff_t>(end));
  for (const program::Span& span : step.spans) {
    const std::size_t first = std::max(span.first_row, begin);
    const std::size_t last = std::min(span.first_row + span.n_rows, end);
    if (first >= last) continue;
    part.spans.push_back({span.slot, span.position + first - span.first_row, first - begin, last - first});
  }
  for (const program::Output& output : step.outputs) {
    if (output.row < begin || output.row >= end) continue;
    part.outputs.push_back(output);
    part.outputs.back().row -= begin;
  }
  return part;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(const model::Model& model, std::size_t n_slots, std::size_t positions,
              const CudaOptions& options)
      : model_(model),
        positions_(positions),
        most_tokens_(std::clamp<std::size_t>(options.most_tokens, 1, kMostLaunchTokens)),
        image_(image_of(options)),
        context_(Context::make(Driver::open(options.library), options.ordinal)),
        stream_(context_),
        module_(context_, image_),
        device_model_(model, positions),
        launcher_(context_, stream_, module_, device_model_.weights().shape(), options.launcher),
        bytes_(bytes_needed(n_slots)) {
    check_memory();
    sequences_.emplace(context_, stream_, device_model_.weights().shape(), n_slots, positions);
    device_model_.load(context_, kMostDecodeRows, options.progress);
    launcher_.allocate(most_ops(model.config));
    stream_.synchronize();
    name_ = fmt::format("{} ({} blocks)", context_->where(), launcher_.n_blocks());
  }

  std::string_view name() const override { return name_; }
  const model::ModelConfig& config() const override { return model_.config; }
  std::size_t n_slots() const override { return sequences_->n_slots(); }
  std::size_t context() const override { return positions_; }
  const DeviceInfo& device() const override { return context_->device(); }
  std::size_t device_bytes() const override { return bytes_; }
  const Launcher& launcher() const override { return launcher_; }
  void time_launches(bool on) override { launcher_.time(on); }

  void reset(std::size_t slot) override {
    SLUICE_CHECK(slot < n_slots());
    sequences_->reset(slot);
  }

  program::StepResult run(const program::Step& step) override {
    check(step);
    program::StepResult result;
    for (std::size_t begin = 0; begin < step.tokens.size(); begin += kMostDecodeRows) {
      const std::size_t end = std::min<std::size_t>(begin + kMostDecodeRows, step.tokens.size());
      run_decode(part_of(step, begin, end), result);
    }
    return result;
  }

  std::size_t run(const program::Continuation& continuation, const program::OnToken& on_token) override {
    program::Step step;
    step.tokens = {continuation.token};
    step.spans.push_back({continuation.slot, continuation.position, 0, 1});
    step.outputs.push_back({0, false, continuation.choice});
    check(step);
    if (choice_kind(continuation.choice) == ChoiceKind::kHost) {
      program::StepResult result;
      run_decode(step, result);
      on_token(result.tokens.front());
      return sequences_->lengths()[continuation.slot];
    }
    const std::size_t room = positions_ - continuation.position;
    const std::size_t n_steps =
        std::clamp<std::size_t>(std::min(continuation.most_tokens, room), 1, most_tokens_);
    Launch launch = prepare(step, n_steps);
    // Those that don't fit end the sequence after the launch, which is then of one step.
    const bool all_fit = continuation.stop_tokens.size() <= kMostStopTokens;
    if (all_fit) {
      launch.n_stop_tokens = static_cast<std::uint32_t>(continuation.stop_tokens.size());
      std::ranges::copy(continuation.stop_tokens, launch.stop_tokens);
    } else {
      launch.n_steps = 1;
    }
    const auto on_step = [&](std::span<const std::int32_t> tokens) { return on_token(tokens.front()); };
    dispatch(launch, step, on_step, continuation.interrupted);
    return sequences_->lengths()[continuation.slot];
  }

 private:
  // The ops of a shape of step, in the device's memory.
  struct Ops {
    program::StepShape shape;
    std::vector<Op> ops;
    DeviceMemory memory;
  };

  std::size_t bytes_needed(std::size_t n_slots) const {
    const std::size_t ops = most_ops(model_.config);
    // Rows, spans and edits of a launch, ops of the shapes in use, and what the driver rounds up.
    constexpr std::size_t kOthers = std::size_t{16} << 20U;
    return device_model_.bytes(kMostDecodeRows) +
           sequence_bytes(device_model_.weights().shape(), n_slots, positions_) +
           Launcher::device_bytes(launcher_.n_blocks(), ops) + kOthers;
  }

  void check_memory() const {
    const std::size_t free = context_->free_bytes();
    if (bytes_ <= free) return;
    throw Error(fmt::format("needs {}, {} free", gigabytes(bytes_), gigabytes(free)), context_->where(),
                "use a smaller context (-c), close what else uses the GPU, or use --device cpu");
  }

  void check(const program::Step& step) const {
    program::validate(step, model_.config, positions_, sequences_->lengths());
    for (const program::Span& span : step.spans) {
      if (!sequences_->is_lost(span.slot)) continue;
      throw Error(fmt::format("slot {} was in a launch that was given up", span.slot), "step",
                  "reset it before it is used again");
    }
  }

  const Ops& ops_of(const program::Step& step) {
    program::StepShape shape;
    // Splits of the KV cache are pages, which every op counts by itself.
    for (const program::Span& span : step.spans)
      shape.spans.push_back({static_cast<std::uint32_t>(span.n_rows), 1});
    for (const program::Output& output : step.outputs)
      shape.output_rows.push_back(static_cast<std::uint32_t>(output.row));
    const auto known = std::ranges::find(kept_, shape, &Ops::shape);
    if (known != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, known);
      return kept_.front();
    }
    constexpr std::size_t kMost = 64;
    if (kept_.size() == kMost) kept_.pop_back();
    const program::Program program = program::build(model_.config, shape, {});
    Ops made{.shape = shape,
             .ops = decode_ops(program, device_model_.weights(), device_model_.base()),
             .memory = {}};
    const auto bytes = std::as_bytes(std::span(made.ops));
    made.memory = DeviceMemory(context_, bytes.size());
    made.memory.upload(0, bytes);
    kept_.push_front(std::move(made));
    return kept_.front();
  }

  LaunchInput input_of(const program::Step& step) const {
    LaunchInput input;
    auto output = step.outputs.begin();
    std::uint32_t n_logits = 0;
    for (const program::Span& span : step.spans) {
      input.spans.push_back({.slot = static_cast<std::uint32_t>(span.slot),
                             .position = static_cast<std::uint32_t>(span.position),
                             .first_row = static_cast<std::uint32_t>(span.first_row),
                             .n_rows = static_cast<std::uint32_t>(span.n_rows),
                             .conv_parity = sequences_->conv_parity(span.slot)});
      for (std::size_t i = span.first_row; i < span.first_row + span.n_rows; ++i) {
        Row row{};
        row.token = step.tokens[i];
        row.span = static_cast<std::uint32_t>(input.spans.size() - 1);
        row.choice = ChoiceKind::kNothing;
        row.logits_at = kNone;
        if (output != step.outputs.end() && output->row == i) {
          if (output->choice) set_choice(*output->choice, row, input.edits);
          if (output->return_logits || row.choice == ChoiceKind::kHost) row.logits_at = n_logits++;
          ++output;
        }
        input.rows.push_back(row);
      }
    }
    return input;
  }

  // Rows, spans and edits in one copy; everything that the launch writes is reserved.
  Launch prepare(const program::Step& step, std::size_t n_steps) {
    for (const program::Span& span : step.spans)
      sequences_->reserve(span.slot, span.position + n_steps * span.n_rows);
    const LaunchInput input = input_of(step);
    const auto rows = std::as_bytes(std::span(input.rows));
    const auto spans = std::as_bytes(std::span(input.spans));
    const auto edits = std::as_bytes(std::span(input.edits));
    staged_.clear();
    for (const auto part : {rows, spans, edits}) staged_.insert(staged_.end(), part.begin(), part.end());
    if (staged_.size() > input_.bytes()) input_ = DeviceMemory(context_, 2 * staged_.size());
    input_.upload(0, staged_);

    const Ops& ops = ops_of(step);
    Launch launch = device_model_.launch();
    launch.states = sequences_->states();
    launch.ops = device_pointer<const Op>(ops.memory.address());
    launch.rows = device_pointer<const Row>(input_.address());
    launch.spans = device_pointer<const Span>(input_.address() + rows.size());
    launch.edits = device_pointer<const Edit>(input_.address() + rows.size() + spans.size());
    launch.n_ops = static_cast<std::uint32_t>(ops.ops.size());
    launch.n_rows = static_cast<std::uint32_t>(input.rows.size());
    launch.n_spans = static_cast<std::uint32_t>(input.spans.size());
    launch.n_steps = static_cast<std::uint32_t>(n_steps);
    return launch;
  }

  void dispatch(const Launch& launch, const program::Step& step, const Launcher::OnStep& on_step,
                const std::atomic<bool>* interrupted) {
    LaunchResult how;
    try {
      launcher_.run(launch, kept_.front().ops, on_step, interrupted, how);
    } catch (...) {
      settle(step, how);
      throw;
    }
    settle(step, how);
  }

  void settle(const program::Step& step, const LaunchResult& how) {
    for (const program::Span& span : step.spans) {
      if (how.ending == Ending::kRunning)
        sequences_->lose(span.slot);
      else
        sequences_->advance(span.slot, how.n_steps, span.n_rows);
    }
  }

  // One launch of one step.
  void run_decode(const program::Step& step, program::StepResult& result) {
    std::vector<std::int32_t> tokens;
    const auto on_step = [&](std::span<const std::int32_t> made) {
      tokens.assign(made.begin(), made.end());
      return true;
    };
    dispatch(prepare(step, 1), step, on_step, nullptr);
    SLUICE_CHECK(tokens.size() == step.tokens.size());
    std::size_t at = 0;
    std::vector<float> logits(model_.config.vocab_size);
    for (const program::Output& output : step.outputs) {
      const bool by_host = output.choice && choice_kind(*output.choice) == ChoiceKind::kHost;
      if (output.return_logits || by_host) {
        const auto bytes = std::as_writable_bytes(std::span(logits));
        device_model_.logits().download(at++ * bytes.size(), bytes);
      }
      if (output.return_logits) result.logits.insert(result.logits.end(), logits.begin(), logits.end());
      if (by_host) {
        result.tokens.push_back(program::choose(logits, *output.choice));
      } else {
        result.tokens.push_back(output.choice ? tokens[output.row] : -1);
      }
    }
  }

  const model::Model& model_;
  std::size_t positions_;
  std::size_t most_tokens_;
  std::span<const std::byte> image_;
  std::shared_ptr<const Context> context_;
  Stream stream_;
  Module module_;
  DeviceModel device_model_;
  Launcher launcher_;
  std::size_t bytes_;
  std::optional<Sequences> sequences_;
  DeviceMemory input_;
  std::vector<std::byte> staged_;
  std::list<Ops> kept_;  // the one used last first
  std::string name_;
};

}  // namespace

ChoiceKind choice_kind(const program::Choice& choice) {
  const program::Sampling& how = choice.sampling;
  if (program::is_greedy(how)) return ChoiceKind::kGreedy;
  const bool keeps_all = how.top_k == 0 || how.top_k >= choice.n_tokens;
  if (!keeps_all || (how.top_k != 0 && how.top_k <= kMostTopK))
    return how.top_k <= kMostTopK ? ChoiceKind::kTopK : ChoiceKind::kHost;
  return how.top_p >= 1 && how.min_p <= 0 ? ChoiceKind::kGumbel : ChoiceKind::kHost;
}

std::unique_ptr<Backend> make_backend(const model::Model& model, std::size_t n_slots, std::size_t context,
                                      const CudaOptions& options) {
  return std::make_unique<CudaBackend>(model, n_slots, context, options);
}

}  // namespace sluice::cuda
