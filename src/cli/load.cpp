#include "cli/load.h"

#include <algorithm>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "oracle/backend.h"

namespace sluice::cli {

model::Model load(const std::filesystem::path& folder) {
  ProgressBar progress("loading");
  return model::load_model(folder, [&progress](std::size_t done, std::size_t total) {
    throw_if_interrupted();
    progress.update(done, total);
  });
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
  return oracle::make_backend(model, 1, context);
}

}  // namespace sluice::cli
