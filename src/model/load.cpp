#include <memory>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "model/checkpoint_files.h"
#include "model/gguf_model.h"
#include "model/hf_weights.h"
#include "model/weights.h"

namespace sluice::model {
namespace {

Model load_gguf(const std::filesystem::path& path, const LoadProgress& progress) {
  const auto file = std::make_shared<const Gguf>(path);
  ModelConfig config = read_gguf_config(*file);
  Model model = read_gguf_weights(*file, config, progress);
  model.config = std::move(config);
  file->check_intact();
  model.storage = file;
  return model;
}

}  // namespace

Model load_model(const std::filesystem::path& path, const LoadProgress& progress) {
  if (is_gguf_file(path)) return load_gguf(path, progress);
  std::error_code ignored;  // a folder that can't be looked at fails in the same way
  if (!std::filesystem::is_directory(path, ignored))
    throw Error("no such folder", path.string(),
                "expected a folder with config.json and safetensors, or a .gguf file");
  ModelConfig config = read_config(path);
  const auto files = std::make_shared<const CheckpointFiles>(path);
  Model model = read_hf_weights(*files, config, progress);
  // A head of its own counts even if the config doesn't know of it: devices go by what is there.
  config.tie_word_embeddings = model.weights.head.data.data() == model.weights.embedding.data.data();
  model.config = std::move(config);
  files->check_intact();
  model.storage = files;
  return model;
}

}  // namespace sluice::model
