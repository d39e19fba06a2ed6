#include "cli/npy.h"

#include <bit>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::cli {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

std::string npy_header(std::span<const std::size_t> shape) {
  std::string dimensions;  // a Python tuple, so that one dimension has a comma, too
  for (const std::size_t dimension : shape) dimensions += fmt::format("{}, ", dimension);
  if (shape.size() > 1) dimensions.resize(dimensions.size() - 2);
  if (shape.size() == 1) dimensions.pop_back();
  std::string dictionary =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", dimensions);
  constexpr std::size_t kFixed = 10;  // magic, version, header length
  constexpr std::size_t kAlignment = 64;
  constexpr std::size_t kMostBytes = 65000;  // its length has 16 bits
  if (dictionary.size() > kMostBytes) throw Error("an array of so many dimensions has no .npy form", "shape");
  const std::size_t unpadded = kFixed + dictionary.size() + 1;
  dictionary.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  dictionary += '\n';
  std::string header = "\x93NUMPY";
  header += {'\x01', '\x00'};
  header += static_cast<char>(dictionary.size() & 0xFFU);
  header += static_cast<char>(dictionary.size() >> 8U);
  return header + dictionary;
}

NpyWriter::NpyWriter(const std::filesystem::path& path, std::span<const std::size_t> shape) : file_(path) {
  for (const std::size_t dimension : shape) missing_ *= dimension;
  const std::string header = npy_header(shape);
  file_.write(std::as_bytes(std::span(header)));
}

void NpyWriter::write(std::span<const float> values) {
  SLUICE_CHECK(values.size() <= missing_);
  file_.write(std::as_bytes(values));
  missing_ -= values.size();
}

void NpyWriter::commit() {
  SLUICE_CHECK(missing_ == 0);
  file_.commit();
}

}  // namespace sluice::cli
