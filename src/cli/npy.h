// NumPy's .npy format, version 1.0 (numpy.lib.format): magic, header length, a Python dictionary, the data.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "cli/output.h"

namespace sluice::cli {

// The bytes before the data of a float32, little-endian, C-order array [rows, cols]; a multiple of 64 long.
std::string npy_header(std::size_t rows, std::size_t cols);

// Writes such an array row by row: it may be larger than memory. The file appears with `commit`.
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, std::size_t rows, std::size_t cols);
  void write(std::span<const float> values);
  // All rows must have been written.
  void commit();

 private:
  OutputFile file_;
  std::size_t missing_;  // values
};

}  // namespace sluice::cli
