#include "cpu/panels.h"

#include <algorithm>
#include <cstring>

#include "cpu/screen.h"

namespace sluice::cpu {
namespace {

constexpr std::size_t kGroup = 4;  // rows and words of a block that is transposed in registers
using Words = std::uint32_t __attribute__((vector_size(kGroup * sizeof(std::uint32_t))));

Words load(const std::byte* from) {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
}

void store(Words words, std::byte* to) {
  std::memcpy(to, &words, sizeof words);
}

constexpr std::size_t kWord = sizeof(std::uint32_t);
constexpr std::size_t kLine = kLanes * kWord;  // a word of every lane

// The row's bits in canonical order of columns.
void read_bits(const SourceRow& source, std::uint16_t* out) {
  const model::Matrix& matrix = *source.matrix;
  const std::byte* from = stored_row(source).data();
  const model::HeadOrder& order = matrix.col_order;
  if (order.stored.empty()) {
    std::memcpy(out, from, matrix.cols * sizeof *out);
    return;
  }
  std::memcpy(out, from, order.begin * sizeof *out);
  for (std::size_t head = 0; head < order.stored.size(); ++head)
    std::memcpy(out + order.begin + head * order.head_size,
                from + (order.begin + order.stored[head] * order.head_size) * sizeof *out,
                order.head_size * sizeof *out);
}

}  // namespace

std::span<const std::byte> stored_row(const SourceRow& source) {
  const model::Matrix& matrix = *source.matrix;
  const std::size_t bytes = model::bytes_of(matrix.dtype, matrix.cols);
  return matrix.data.subspan(matrix.row_order.stored_index(source.row) * bytes, bytes);
}

void interleave(const std::array<const std::byte*, kLanes>& rows, std::size_t n_words, std::byte* out) {
  std::size_t word = 0;
  for (; word + kGroup <= n_words; word += kGroup) {
    for (std::size_t lane = 0; lane < kLanes; lane += kGroup) {
      const Words a = load(rows[lane] + word * kWord);
      const Words b = load(rows[lane + 1] + word * kWord);
      const Words c = load(rows[lane + 2] + word * kWord);
      const Words d = load(rows[lane + 3] + word * kWord);
      const Words ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      const Words ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Words cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
      const Words cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      std::byte* to = out + word * kLine + lane * kWord;
      store(__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), to);
      store(__builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7), to + kLine);
      store(__builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), to + 2 * kLine);
      store(__builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7), to + 3 * kLine);
    }
  }
  for (; word < n_words; ++word)
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      std::memcpy(out + word * kLine + lane * kWord, rows[lane] + word * kWord, kWord);
}

bool PanelMaker::make(std::span<const SourceRow, kLanes> rows, std::size_t depth, bool is_bf16,
                      std::byte* out) {
  // This look also brings the rows from memory into the cache, one stream after the other.
  bool finite = true;
  for (const SourceRow& row : rows)
    if (row.matrix != nullptr) finite = model::all_finite(row.matrix->dtype, stored_row(row)) && finite;
  is_bf16 ? make_bf16(rows, depth, out) : make_f32(rows, depth, out);
  return finite;
}

void PanelMaker::make_bf16(std::span<const SourceRow, kLanes> rows, std::size_t depth, std::byte* out) {
  if (bits_.size() < (kLanes + 1) * depth) bits_.resize((kLanes + 1) * depth);
  std::uint16_t* const zeros = bits_.data() + kLanes * depth;
  std::fill_n(zeros, depth, std::uint16_t{0});
  std::array<const std::byte*, kLanes> from{};
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const SourceRow& row = rows[lane];
    if (row.matrix == nullptr) {
      from[lane] = reinterpret_cast<const std::byte*>(zeros);
    } else if (row.matrix->cols == depth && row.matrix->col_order.stored.empty()) {
      from[lane] = stored_row(row).data();
    } else {
      std::uint16_t* const bits = bits_.data() + lane * depth;
      read_bits(row, bits);
      std::fill(bits + row.matrix->cols, bits + depth, std::uint16_t{0});
      from[lane] = reinterpret_cast<const std::byte*>(bits);
    }
  }
  interleave(from, depth / 2, out);
}

void PanelMaker::make_screen(std::span<const SourceRow, kLanes> rows, std::size_t depth, std::byte* out) {
  if (floats_.size() < depth) floats_.resize(depth);
  bytes_.resize(kLanes * depth);
  ScreenHeader header;
  std::array<const std::byte*, kLanes> from{};
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    std::uint8_t* const bytes = bytes_.data() + lane * depth;
    const SourceRow& row = rows[lane];
    const std::size_t n = row.matrix == nullptr ? 0 : row.matrix->cols;
    if (row.matrix != nullptr) row.matrix->read_row(row.row, std::span(floats_).first(n));
    quantize_weights(std::span(floats_).first(n), lane, header, bytes);
    std::fill(bytes + screen_depth(n), bytes + depth, std::uint8_t{128});
    from[lane] = reinterpret_cast<const std::byte*>(bytes);
  }
  std::memcpy(out, &header, sizeof header);
  interleave(from, depth / kGroup, out + sizeof header);
}

void PanelMaker::make_f32(std::span<const SourceRow, kLanes> rows, std::size_t depth, std::byte* out) {
  floats_.assign(kLanes * depth, 0.0F);
  std::array<const std::byte*, kLanes> from{};
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const std::span<float> row = std::span(floats_).subspan(lane * depth, depth);
    if (rows[lane].matrix != nullptr)
      rows[lane].matrix->read_row(rows[lane].row, row.first(rows[lane].matrix->cols));
    from[lane] = reinterpret_cast<const std::byte*>(row.data());
  }
  interleave(from, depth, out);
}

}  // namespace sluice::cpu
