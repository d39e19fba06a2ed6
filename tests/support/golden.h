// The golden data of tests/golden: small random checkpoints and the logits that Hugging Face transformers gives in
// fp32. tools/golden.py makes it and says what lies in a folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/mapped_file.h"
#include "tests/support/npy.h"

namespace sluice::test {

inline std::filesystem::path golden_folder(const std::string& name = {}) {
  return std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "golden" / name;
}

// Names of all cases, sorted.
inline std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder()))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

inline Json golden_json(const std::string& name, const std::string& file) {
  const std::filesystem::path path = golden_folder(name) / file;
  return parse_json(read_text_file(path, 1 << 20), path.string());
}

struct GoldenPrompt {
  std::vector<std::int32_t> tokens;
  NpyArray logits;  // [tokens, vocab]
};

inline std::vector<GoldenPrompt> golden_prompts(const std::string& name) {
  std::vector<GoldenPrompt> prompts;
  const Json json = golden_json(name, "tokens.json");
  for (const Json& tokens : json.at("prompts")) {
    const std::string file = "logits_" + std::to_string(prompts.size()) + ".npy";
    prompts.push_back({tokens.get<std::vector<std::int32_t>>(), read_npy(golden_folder(name) / file)});
  }
  return prompts;
}

// ‖got − want‖ ÷ ‖want‖; infinite if sizes differ or a value isn't finite.
template <typename T>
double relative_rms(std::span<const T> got, std::span<const float> want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double error = 0;
  double scale = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    error += difference * difference;
    scale += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  const double relative = std::sqrt(error / scale);
  return std::isfinite(relative) ? relative : std::numeric_limits<double>::infinity();
}

}  // namespace sluice::test
