#include <memory>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "model/checkpoint_files.h"
#include "model/hf_weights.h"
#include "model/weights.h"

namespace sluice::model {

Model load_model(const std::filesystem::path& folder, const LoadProgress& progress) {
  std::error_code ignored;  // a folder that can't be looked at fails in the same way
  if (!std::filesystem::is_directory(folder, ignored))
    throw Error("no such folder", folder.string(), "expected a folder with config.json and safetensors");
  ModelConfig config = read_config(folder);
  const auto files = std::make_shared<const CheckpointFiles>(folder);
  Model model = read_hf_weights(*files, config, progress);
  model.config = std::move(config);
  model.storage = files;
  return model;
}

}  // namespace sluice::model
