#include "cli/load.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "oracle/backend.h"

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

}  // namespace

model::Model load(const std::filesystem::path& path) {
  ProgressBar bar("loading");
  model::Model model = model::load_model(path, with_interrupts(bar));
  warn_of_unknown(model);
  return model;
}

model::Model load_to_compute(const std::filesystem::path& path) {
  model::Model model = load(path);
  ProgressBar bar("checking");
  model::check_finite(model, with_interrupts(bar));
  model.storage->check_intact();
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
                                               std::size_t context) {
  check_device(options);
  return std::make_unique<IntactBackend>(model, oracle::make_backend(model, 1, context));
}

}  // namespace sluice::cli
