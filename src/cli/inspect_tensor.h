// sluice inspect --tensor: one tensor of a checkpoint, as it is stored.
#pragma once

#include <filesystem>
#include <string>

namespace sluice::cli {

// What `sluice inspect MODEL --tensor NAME` prints: type, shape and statistics, as text or JSON. Reads this tensor only.
// Throws Error if there is none of that name (it tells the most similar ones), or of a type that isn't read.
std::string tensor_report(const std::filesystem::path& model, const std::string& name, bool json);

// Writes it to `output` as .npy: fp32 (dequantized where it is quantized), its stored shape and order.
void write_tensor(const std::filesystem::path& model, const std::string& name,
                  const std::filesystem::path& output);

}  // namespace sluice::cli
