// Makes panels (kernels.h) of rows of matrices.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/kernels.h"
#include "model/weights.h"

namespace sluice::cpu {

// What becomes one lane of a panel.
struct SourceRow {
  const model::Matrix* matrix = nullptr;  // none: padding
  std::size_t row = 0;                    // canonical
};

// The bytes of a row as they are stored, in the matrix's type.
std::span<const std::byte> stored_row(const SourceRow& source);

// out[i][lane] = rows[lane][i] for i < n_words: words of 32 bits, from any address.
void interleave(const std::array<const std::byte*, kLanes>& rows, std::size_t n_words, std::byte* out);

// One worker's memory for making panels.
class PanelMaker {
 public:
  // Writes the panel of sixteen rows, at most `depth` (even) weights each, the rest zeros: [depth / 2][16][2] bf16 if
  // is_bf16, then all rows are; else [depth][16] fp32. False if a weight is infinite or not a number; the panel is
  // written all the same.
  bool make(std::span<const SourceRow, kLanes> rows, std::size_t depth, bool is_bf16, std::byte* out);

  // Writes the panel of the same rows, which are finite, as screen.h says; `depth` is a multiple of four.
  void make_screen(std::span<const SourceRow, kLanes> rows, std::size_t depth, std::byte* out);

 private:
  void make_bf16(std::span<const SourceRow, kLanes> rows, std::size_t depth, std::byte* out);
  void make_f32(std::span<const SourceRow, kLanes> rows, std::size_t depth, std::byte* out);

  std::vector<std::uint16_t>
      bits_;                   // [17, depth]  rows whose columns are reordered or odd in number, then zeros
  std::vector<float> floats_;  // [16, depth]
  std::vector<std::uint8_t> bytes_;  // [16, depth]
};

}  // namespace sluice::cpu
