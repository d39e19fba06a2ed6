#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "ptx/tool/arguments.h"

namespace sluice::ptx {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

// The text of a key's value in the header's Python dictionary.
std::string_view value_of(std::string_view header, std::string_view key, char open, char close,
                          const std::string& path) {
  const std::size_t at = header.find(fmt::format("'{}'", key));
  const std::size_t begin = at == std::string_view::npos ? at : header.find(open, at + key.size() + 2);
  const std::size_t end = begin == std::string_view::npos ? begin : header.find(close, begin + 1);
  if (end == std::string_view::npos) throw Error(fmt::format("a .npy header without {}", key), path);
  return header.substr(begin + 1, end - begin - 1);
}

}  // namespace

ArrayFile read_npy(const std::string& path) {
  MappedFile file(path);
  const std::string_view text = file.text();
  if (!text.starts_with(kMagic) || text.size() < 12) throw Error("not a .npy file", path);
  const bool second = text[6] == 2;
  const std::size_t prefix = second ? 12 : 10;
  std::uint32_t length = 0;
  std::memcpy(&length, text.data() + 8, second ? 4 : 2);
  if (length > text.size() - prefix) throw Error("a .npy file that ends in its header", path);
  const std::string_view header = text.substr(prefix, length);
  ArrayType array;
  array.type = value_of(header, "descr", '\'', '\'', path);
  if (header.find("'fortran_order': False") == std::string_view::npos) throw Error("not in C order", path);
  std::size_t size = array.type.size() == 3 ? static_cast<std::size_t>(array.type[2] - '0') : 0;
  if ((size != 1 && size != 2 && size != 4 && size != 8) || array.type[0] == '>' || array.type[1] == 'U')
    throw Error(fmt::format("type {} is not supported", printable(array.type)), path,
                "numbers, in little-endian order: astype('<f4') and so on");
  std::string_view shape = value_of(header, "shape", '(', ')', path);
  while (true) {
    shape.remove_prefix(std::min(shape.find_first_of("0123456789"), shape.size()));
    if (shape.empty()) break;
    std::uint64_t extent = 0;
    const auto [end, error] = std::from_chars(shape.data(), shape.data() + shape.size(), extent);
    const auto product = checked_multiply(size, extent);
    if (error != std::errc{} || !product) throw Error("a shape without end", path);
    size = *product;
    array.shape.push_back(extent);
    shape.remove_prefix(static_cast<std::size_t>(end - shape.data()));
  }
  const std::span<const std::byte> data = file.bytes().subspan(prefix + length);
  if (data.size() != size)
    throw Error(fmt::format("{} of data, the shape says {}", counted(data.size(), "byte"), size), path);
  return {std::move(array), std::move(file), data};
}

void write_npy(const std::string& path, const ArrayType& array, std::span<const std::byte> data) {
  std::string shape;
  for (const std::uint64_t extent : array.shape) shape += fmt::format("{},", extent);
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", array.type, shape);
  header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());
  std::ofstream out(path, std::ios::binary);
  out << kMagic << '\x01' << '\0' << static_cast<char>(length & 0xffU) << static_cast<char>(length >> 8U)
      << header;
  out.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
  if (!out.flush()) throw Error("can't be written", path);
}

}  // namespace sluice::ptx
