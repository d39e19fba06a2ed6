// NumPy's .npy format, version 1.0 (numpy.lib.format): magic, header length, a Python dictionary, the data.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "cli/output.h"

namespace sluice::cli {

// The bytes before the data of a float32, little-endian, C-order array of that shape; a multiple of 64 long.
std::string npy_header(std::span<const std::size_t> shape);

// Writes such an array piece by piece: it may be larger than memory. The file appears with `commit`.
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, std::span<const std::size_t> shape);
  void write(std::span<const float> values);
  // All values must have been written.
  void commit();

 private:
  OutputFile file_;
  std::size_t missing_ = 1;  // values
};

}  // namespace sluice::cli
