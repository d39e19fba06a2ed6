#include "cuda/backend.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "cuda/build.h"
#include "cuda/context.h"
#include "cuda/device_model.h"
#include "cuda/op_lists.h"
#include "cuda/prefill_buffers.h"
#include "cuda/sequences.h"
#include "cuda/step_parts.h"

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

// What goes to the device in one copy: arrays at aligned offsets.
class Staging {
 public:
  void clear() { bytes_.clear(); }
  template <typename T>
  std::size_t add(const std::vector<T>& values) {
    bytes_.resize(aligned(bytes_.size()));
    const std::size_t at = bytes_.size();
    const auto bytes = std::as_bytes(std::span(values));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return at;
  }
  // Bytes once `n` more of T are added.
  template <typename T>
  std::size_t bytes_with(std::size_t n) const {
    return aligned(bytes_.size()) + n * sizeof(T);
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  static std::size_t aligned(std::size_t bytes) {
    constexpr std::size_t kAlignment = 16;
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  std::vector<std::byte> bytes_;
};

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
        begin_(context_),
        end_(context_),
        module_(context_, image_),
        device_model_(model, positions),
        launcher_(context_, stream_, module_, device_model_.weights().shape(), options.launcher),
        limits_(
            mixed_limits(std::clamp<std::size_t>(options.most_rows, kMostDecodeRows,
                                                 std::max<std::size_t>(kMostDecodeRows, n_slots * positions)),
                         n_slots)),
        bytes_(bytes_needed(n_slots)) {
    check_memory();
    const ModelShape& shape = device_model_.weights().shape();
    sequences_.emplace(context_, stream_, shape, n_slots, positions);
    device_model_.load(context_, options.progress);
    prefill_ = PrefillBuffers(context_, stream_, shape, limits_);
    lists_.emplace(context_, model.config, device_model_.weights(), device_model_.base());
    launcher_.allocate(launch_limits());
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
  void start_clock() override { begin_.record(stream_); }
  double stop_clock() override {
    end_.record(stream_);
    end_.synchronize();
    return end_.seconds_since(begin_);
  }
  std::unique_ptr<Probe> make_probe() const override {
    return std::make_unique<Probe>(context_, module_, stream_,
                                   probe_buffer_bytes(device(), context_->free_bytes()));
  }

  void reset(std::size_t slot) override {
    SLUICE_CHECK(slot < n_slots());
    sequences_->reset(slot);
  }

  program::StepResult run(const program::Step& step) override {
    check(step);
    program::StepResult result;
    for (const program::Step& part : launches_of(step, limits_.rows)) {
      if (is_decode(part))
        run_decode(part, result);
      else
        run_mixed(part, result);
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
  LaunchLimits launch_limits() const {
    const std::size_t ops = most_ops(model_.config);
    constexpr std::size_t kHeadOps = 2;
    return {.lines = mixed_counters(static_cast<std::uint32_t>(ops),
                                    static_cast<std::uint32_t>(limits_.row_blocks)) +
                     limits_.groups * ops + limits_.heads * kHeadOps,
            .parts = limits_.groups + limits_.heads};
  }

  std::size_t bytes_needed(std::size_t n_slots) const {
    // Rows, spans and edits of a launch, ops of the shapes in use, and what the driver rounds up.
    constexpr std::size_t kOthers = std::size_t{16} << 20U;
    const ModelShape& shape = device_model_.weights().shape();
    return device_model_.bytes() + PrefillBuffers::bytes(shape, limits_) +
           sequence_bytes(shape, n_slots, positions_) + launcher_.device_bytes(launch_limits()) + kOthers;
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

  struct Place {
    std::size_t rows, spans, edits;
  };
  Place stage(const Part& part) {
    const std::size_t rows = staging_.add(part.rows);
    const std::size_t spans = staging_.add(part.spans);
    return {rows, spans, staging_.add(part.edits)};
  }

  template <typename T>
  const T* staged(std::size_t at) const {
    return device_pointer<const T>(input_.address() + at);
  }

  Launch launch_of(const Part& part, const Place& place, const OpList* list, std::size_t index,
                   std::size_t n_steps) const {
    Launch launch = device_model_.launch(index);
    launch.states = sequences_->states();
    if (list != nullptr) {
      launch.ops = list->on_device();
      launch.n_ops = static_cast<std::uint32_t>(list->ops.size());
    }
    launch.rows = staged<Row>(place.rows);
    launch.spans = staged<Span>(place.spans);
    launch.edits = staged<Edit>(place.edits);
    launch.n_rows = static_cast<std::uint32_t>(part.rows.size());
    launch.n_spans = static_cast<std::uint32_t>(part.spans.size());
    launch.n_steps = static_cast<std::uint32_t>(n_steps);
    return launch;
  }

  // Everything that a launch writes is reserved.
  void reserve(const program::Step& step, std::size_t n_steps) {
    const auto n_logits = static_cast<std::size_t>(std::ranges::count_if(step.outputs, needs_logits));
    device_model_.reserve_logits(context_, std::max<std::size_t>(kMostDecodeRows, n_logits));
    for (const program::Span& span : step.spans)
      sequences_->reserve(span.slot, span.position + n_steps * span.n_rows);
    lists_->forget();
    staging_.clear();
  }

  void reserve_input(std::size_t bytes) {
    if (bytes > input_.bytes()) input_ = DeviceMemory(context_, 2 * bytes);
  }

  Launch prepare(const program::Step& step, std::size_t n_steps) {
    reserve(step, n_steps);
    const Part part = decode_part(step, sequences_->conv_parity());
    const Place place = stage(part);
    reserve_input(staging_.bytes().size());
    input_.upload(0, staging_.bytes());
    return launch_of(part, place, &lists_->of(part.shape()), 0, n_steps);
  }

  // One mixed launch. Its parts' descriptions follow in the same copy.
  MixedLaunch prepare(const MixedParts& parts, MixedOps& names) {
    std::vector<Place> places;
    for (const Part& group : parts.groups) places.push_back(stage(group));
    for (const Part& head : parts.heads) places.push_back(stage(head));
    const Place prefill = stage(parts.prefill);
    const std::size_t blocks = staging_.add(parts.blocks);
    const std::size_t outputs = staging_.add(parts.output_rows);
    reserve_input(staging_.bytes_with<Launch>(places.size()));

    MixedLaunch mixed{};
    const OpList* const list = parts.blocks.empty() ? nullptr : &lists_->of_prefill(!parts.heads.empty());
    mixed.prefill = launch_of(parts.prefill, prefill, list, 0, 1);
    prefill_.put_into(mixed);
    if (list != nullptr) names.prefill = list->ops;
    std::vector<Launch> launches;
    for (const Part& group : parts.groups) {
      const OpList& of_group = lists_->of(group.shape());
      launches.push_back(launch_of(group, places[launches.size()], &of_group, launches.size(), 1));
      names.parts.emplace_back(of_group.ops);
    }
    float* residual = mixed.output_residual;
    for (const Part& head : parts.heads) {
      const OpList& of_head = lists_->of_heads();
      launches.push_back(launch_of(head, places[launches.size()], &of_head, 0, 1));
      launches.back().buffers.residual = residual;
      residual += head.rows.size() * device_model_.weights().shape().residual_stride();
      names.parts.emplace_back(of_head.ops);
    }
    mixed.n_groups = static_cast<std::uint32_t>(parts.groups.size());
    mixed.n_heads = static_cast<std::uint32_t>(parts.heads.size());
    mixed.n_blocks = static_cast<std::uint32_t>(parts.blocks.size());
    mixed.n_outputs = static_cast<std::uint32_t>(parts.output_rows.size());
    launcher_.prepare(mixed, launches);
    mixed.blocks = staged<RowBlock>(blocks);
    mixed.outputs = staged<std::uint32_t>(outputs);
    mixed.groups = staged<Launch>(staging_.add(launches));
    mixed.heads = mixed.groups + parts.groups.size();
    input_.upload(0, staging_.bytes());
    return mixed;
  }

  void dispatch(const Launch& launch, const program::Step& step, const Launcher::OnStep& on_step,
                const std::atomic<bool>* interrupted) {
    settled(step, [&](LaunchResult& how) {
      launcher_.run(launch, lists_->latest().ops, on_step, interrupted, how);
    });
  }

  // Runs a launch; whatever comes of it, the step's slots stand as it has left them.
  template <typename Run>
  void settled(const program::Step& step, const Run& run) {
    LaunchResult how;
    try {
      run(how);
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
    std::vector<std::int32_t> chosen;
    for (const program::Output& output : step.outputs) chosen.push_back(tokens[output.row]);
    add_outputs(step, chosen, result);
  }

  // The same of one that isn't decode alone.
  void run_mixed(const program::Step& step, program::StepResult& result) {
    reserve(step, 1);
    const MixedParts parts = mixed_parts(step, sequences_->conv_parity());
    MixedOps names;
    const MixedLaunch mixed = prepare(parts, names);
    settled(step, [&](LaunchResult& how) { launcher_.run(mixed, names, how); });
    std::vector<std::int32_t> chosen(step.outputs.size(), -1);
    std::size_t index = 0;
    for (const auto* all : {&parts.groups, &parts.heads}) {
      for (const Part& part : *all) {
        const std::span<const std::int32_t> tokens = launcher_.tokens(index++);
        for (std::size_t row = 0; row < part.rows.size(); ++row)
          if (part.outputs[row] != Part::kNoOutput) chosen[part.outputs[row]] = tokens[row];
      }
    }
    add_outputs(step, chosen, result);
  }

  // `chosen`: by the launch, [outputs].
  void add_outputs(const program::Step& step, std::span<const std::int32_t> chosen,
                   program::StepResult& result) const {
    std::size_t at = 0;
    std::vector<float> logits(model_.config.vocab_size);
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      const program::Output& output = step.outputs[i];
      const bool by_host = output.choice && choice_kind(*output.choice) == ChoiceKind::kHost;
      if (needs_logits(output)) {
        const auto bytes = std::as_writable_bytes(std::span(logits));
        device_model_.logits().download(at++ * bytes.size(), bytes);
      }
      if (output.return_logits) result.logits.insert(result.logits.end(), logits.begin(), logits.end());
      if (by_host) {
        result.tokens.push_back(program::choose(logits, *output.choice));
      } else {
        result.tokens.push_back(output.choice ? chosen[i] : -1);
      }
    }
  }

  const model::Model& model_;
  std::size_t positions_;
  std::size_t most_tokens_;
  std::span<const std::byte> image_;
  std::shared_ptr<const Context> context_;
  Stream stream_;
  Event begin_, end_;  // of what is timed
  Module module_;
  DeviceModel device_model_;
  Launcher launcher_;
  MixedLimits limits_;
  std::size_t bytes_;
  std::optional<Sequences> sequences_;
  PrefillBuffers prefill_;
  DeviceMemory input_;
  Staging staging_;
  std::optional<OpLists> lists_;
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
