// safetensors and config.json: the two halves of a folder, each with a sound other half, so that what the one says about
// the other is reached.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "base/error.h"
#include "model/weights.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/use_tensors.h"
#include "tests/support/temp_folder.h"

namespace sluice::fuzz {
namespace {

std::string read_seed(const std::string& name) {
  std::ifstream stream(std::string(SLUICE_SOURCE_DIR) + "/tests/fuzz/seeds/" + name, std::ios::binary);
  if (!stream) throw std::runtime_error("no seed " + name);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// A checkpoint in which one file is the input.
class Checkpoint {
 public:
  Checkpoint(const std::string& fuzzed, const std::string& fixed, const std::string& seed) {
    std::filesystem::create_symlink(input_.path(), folder_.path() / fuzzed);
    folder_.write(fixed, read_seed(seed));
  }

  bool load(std::string_view input) const {
    input_.set(input);
    try {
      use_model(model::load_model(folder_.path()));
      return true;
    } catch (const Error&) {
      return false;
    }
  }

 private:
  MemoryFile input_;
  test::TempFolder folder_;
};

}  // namespace

bool safetensors(std::string_view input) {
  static const Checkpoint checkpoint("model.safetensors", "config.json", "config_json/good_tiny.json");
  return checkpoint.load(input);
}

bool config_json(std::string_view input) {
  static const Checkpoint checkpoint("config.json", "model.safetensors", "safetensors/good_tiny.safetensors");
  return checkpoint.load(input);
}

}  // namespace sluice::fuzz
