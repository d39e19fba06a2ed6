#include "cli/load.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/cache_folder.h"
#include "cli/decode_cost.h"
#include "cli/device_names.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/memory.h"
#include "cli/terminal.h"
#include "cpu/placement.h"
#include "oracle/backend.h"
#include "program/screening.h"

namespace sluice::cli {

namespace {

// Results count only while the files that they came from are whole.
class IntactBackend final : public program::Backend {
 public:
  IntactBackend(const model::Model& model, std::unique_ptr<program::Backend> backend)
      : model_(model), backend_(std::move(backend)) {}

  std::string_view name() const override { return backend_->name(); }
  const model::ModelConfig& config() const override { return backend_->config(); }
  std::size_t n_slots() const override { return backend_->n_slots(); }
  std::size_t context() const override { return backend_->context(); }
  void reset(std::size_t slot) override { backend_->reset(slot); }

  program::StepResult run(const program::Step& step) override {
    program::StepResult result = backend_->run(step);
    model_.storage->check_intact();
    return result;
  }

  std::size_t run(const program::Continuation& continuation, const program::OnToken& on_token) override {
    const program::OnToken on_sound_token = [&](std::int32_t token) {
      model_.storage->check_intact();
      return on_token(token);
    };
    return backend_->run(continuation, on_sound_token);
  }

 private:
  const model::Model& model_;
  std::unique_ptr<program::Backend> backend_;
};

model::LoadProgress with_interrupts(ProgressBar& bar) {
  return [&bar](std::size_t done, std::size_t total) {
    throw_if_interrupted();
    bar.update(done, total);
  };
}

// Tensors that a checkpoint may hold though we don't use them: the vision tower, multi-token prediction that the config
// doesn't speak of, the copy of a tied head.
bool may_be_skipped(const std::string& name, const model::ModelConfig& config) {
  const auto has_prefix = [&name](std::string_view prefix) { return name.starts_with(prefix); };
  constexpr std::array<std::string_view, 4> kVision = {"model.visual.", "visual.", "v.", "mm."};
  if (std::ranges::any_of(kVision, has_prefix)) return true;
  if (has_prefix("mtp.")) return config.n_mtp_layers == 0;
  return config.tie_word_embeddings && name.ends_with("lm_head.weight");
}

void warn_of_unknown(const model::Model& model) {
  std::size_t unknown = 0;
  std::string first;
  for (const std::string& name : model.skipped) {
    if (may_be_skipped(name, model.config)) continue;
    if (unknown++ == 0) first = name;
  }
  if (unknown == 0) return;
  constexpr std::size_t kMostNameBytes = 200;
  warn(fmt::format("{} of the checkpoint's tensors {} not used, {}{}: is it another kind of model?", unknown,
                   unknown == 1 ? "is" : "are", unknown == 1 ? "" : "the first ",
                   printable(first, kMostNameBytes)));
}

cpu::HeadMode head_mode(const CommonOptions& options) {
  if (!options.chooses_head) return cpu::HeadMode::kFull;
  if (!options.head) return cpu::HeadMode::kBest;
  return *options.head == "screened" ? cpu::HeadMode::kScreened : cpu::HeadMode::kFull;
}

void check_all_finite(const model::Model& model) {
  ProgressBar bar("checking");
  model::check_finite(model, with_interrupts(bar));
  model.storage->check_intact();
}

const char* name_of(cpu::LoadStage stage) {
  switch (stage) {
    case cpu::LoadStage::kPack:
      return "packing";
    case cpu::LoadStage::kHash:
      return "looking";
    case cpu::LoadStage::kRead:
      return "reading";
    case cpu::LoadStage::kWrite:
      return "keeping";
  }
  return "loading";
}

// One bar after the other.
class LoadingBars {
 public:
  void update(cpu::LoadStage stage, std::size_t done, std::size_t total) {
    throw_if_interrupted();
    if (!bar_ || stage != stage_) bar_.emplace(name_of(stage));
    stage_ = stage;
    bar_->update(done, total);
  }
  void warn_of(std::string_view what) {
    bar_.reset();
    warn(what);
  }

 private:
  cpu::LoadStage stage_ = cpu::LoadStage::kPack;
  std::optional<ProgressBar> bar_;
};

}  // namespace

model::Model load(const std::filesystem::path& path) {
  ProgressBar bar("loading");
  model::Model model = model::load_model(path, with_interrupts(bar));
  warn_of_unknown(model);
  return model;
}

std::size_t choose_context(const CommonOptions& options, const model::ModelConfig& config,
                           std::size_t preferred) {
  if (!options.context) return std::min(preferred, config.max_positions);
  if (*options.context > config.max_positions) {
    throw UsageError(fmt::format("a context of {} is more than the model was made for", *options.context),
                     "-c", fmt::format("use at most {}", config.max_positions));
  }
  return *options.context;
}

std::unique_ptr<program::Backend> make_backend(const CommonOptions& options, const model::Model& model,
                                               std::size_t context, cpu::Trace* trace,
                                               std::size_t other_bytes) {
  check_device(options);
  if (is_gpu(options.device)) {
    check_all_finite(model);
    return std::make_unique<IntactBackend>(model, make_gpu_backend(options, model, 1, context));
  }
  if (options.device != "cpu") {
    check_all_finite(model);
    return std::make_unique<IntactBackend>(model, oracle::make_backend(model, 1, context));
  }
  cpu::CpuOptions how = cpu_options(options);
  MemoryPlan plan{.context = context,
                  .rows = 0,
                  .other_bytes = other_bytes,
                  .what_helps = "use -c {} or less",
                  .cpu = cpu_memory(options, model.config)};
  plan.cpu->packed_bytes = packed_bytes(model, cpu::has_screened_head(model.config, how));
  if (how.head == cpu::HeadMode::kBest && !memory_fits(model.config, plan)) {
    how.head = cpu::HeadMode::kFull;  // the copy is there for speed alone
    plan.cpu->packed_bytes = packed_bytes(model, false);
  }
  check_memory(model.config, plan);
  auto backend = cpu::make_backend(model, 1, context, how, show_loading());
  backend->trace(trace);
  throw_if_interrupted();
  return std::make_unique<IntactBackend>(model, std::move(backend));
}

std::unique_ptr<cuda::Backend> make_gpu_backend(const CommonOptions& options, const model::Model& model,
                                                std::size_t n_slots, std::size_t context) {
  cuda::CudaOptions how;
  if (options.device == "emulated") {
    how.library = emulated_library();
    if (!how.library)
      throw Error("the PTX machine's library is not beside the program", "--device emulated",
                  "build or install it (docs/ptx.md)");
  } else {
    how.ordinal = device_number(options.device).value_or(0);
  }
  ProgressBar bar("loading");
  how.progress = with_interrupts(bar);
  return cuda::make_backend(model, n_slots, context, how);
}

// bf16 as they are, all else as fp32. An embedding that is not the head, too, stays in its file.
std::size_t packed_bytes(const model::Model& model, bool is_screened) {
  const model::Matrix& head = model.weights.head;
  std::size_t bytes =
      is_screened ? program::screen_panels(head.rows) * program::screen_panel_bytes(head.cols) : 0;
  for (const model::ModelTensor& tensor : model.tensors) {
    const bool is_embedding = tensor.data.data() == model.weights.embedding.data.data();
    if (tensor.mtp || tensor.shape.size() < 2 || (is_embedding && !model.config.tie_word_embeddings))
      continue;
    bytes += tensor.size() * (tensor.dtype == model::DType::kBF16 ? sizeof(std::uint16_t) : sizeof(float));
  }
  return bytes;
}

std::optional<CpuMemory> cpu_memory(const CommonOptions& options, const model::ModelConfig& config) {
  if (is_gpu(options.device)) {
    // A GPU has the weights, the states and the buffers in its own memory; the PTX machine has them in ours.
    const std::size_t emulated =
        options.device == "emulated" ? parameter_count(config) * sizeof(std::uint16_t) : 0;
    return CpuMemory{.packed_bytes = emulated, .rows = 1, .threads = 1};
  }
  if (options.device != "cpu") return std::nullopt;
  const std::size_t kept_in_the_file =
      config.tie_word_embeddings ? 0 : config.vocab_size * config.hidden_size;
  return CpuMemory{.packed_bytes = (parameter_count(config) - kept_in_the_file) * sizeof(std::uint16_t),
                   .rows = rows_per_step(options, config),
                   .threads = std::min<std::size_t>(options.threads.value_or(cpu::usable_processors()),
                                                    cpu::usable_processors())};
}

cpu::LoadEvents show_loading() {
  const auto bars = std::make_shared<LoadingBars>();
  return {.progress = [bars](cpu::LoadStage stage, std::size_t done,
                             std::size_t total) { bars->update(stage, done, total); },
          .warn = [bars](std::string_view what) { bars->warn_of(what); }};
}

cpu::CpuOptions cpu_options(const CommonOptions& options) {
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
  };
  cpu::CpuOptions cpu;
  cpu.n_workers = options.threads.value_or(0);
  cpu.pin = !options.no_pin;
  cpu.head = head_mode(options);
  if (const std::string isa = environment("SLUICE_ISA"); !isa.empty()) cpu.isa = isa;
  const std::string verify = environment("SLUICE_VERIFY");
  if (!verify.empty() && verify != "0" && verify != "1")
    throw Error(fmt::format("\"{}\" is neither yes nor no", verify), "SLUICE_VERIFY", "use 1 or 0");
  cpu.verify_programs = verify == "1";
  if (!options.cache) return cpu;
  if (const auto folder = cache_folder()) {
    cpu.cache = *folder / "packed";
  } else {
    warn("there is no folder for --cache: set SLUICE_CACHE_DIR or HOME");
  }
  return cpu;
}

std::size_t rows_per_step(const CommonOptions& options, const model::ModelConfig& config) {
  constexpr std::size_t kMost = 512;
  constexpr std::size_t kUnit = 128;  // rows that weights pass by at once: fewer would cost time
  constexpr std::size_t kMostBytes = std::size_t{40} << 20U;  // 2B has 74 kB a row, 27B 181 kB
  if (options.device == "oracle") return 1;
  if (options.device != "cpu") return kMost;
  return std::clamp(kMostBytes / activation_bytes(config) / kUnit * kUnit, kUnit, kMost);
}

std::size_t rows_per_step_of_logits(const CommonOptions& options, const model::ModelConfig& config) {
  constexpr std::size_t kMostBytes = std::size_t{64} << 20U;
  constexpr std::size_t kUnit = 16;  // what kernels take at a time
  const std::size_t fits = kMostBytes / (config.vocab_size * sizeof(float)) / kUnit * kUnit;
  return std::min(rows_per_step(options, config), std::max(fits, kUnit));
}

}  // namespace sluice::cli
