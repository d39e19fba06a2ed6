// Reads what numpy.save wrote: format 1.0, little-endian float32, C order (numpy.lib.format). For tests.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"

namespace sluice::test {

static_assert(std::endian::native == std::endian::little);

struct NpyArray {
  std::vector<std::size_t> shape;
  std::vector<float> values;  // row-major
};

// Throws std::runtime_error for any other kind of array.
inline NpyArray read_npy(const std::filesystem::path& path) {
  const auto fail = [&](const std::string& what) -> NpyArray {
    throw std::runtime_error(path.string() + ": " + what);
  };
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (text.size() < 10 || text.substr(0, 8) != std::string_view("\x93NUMPY\x01\x00", 8))
    return fail("not a .npy file of format 1.0");
  const std::size_t header_size =
      static_cast<unsigned char>(text[8]) + 256U * static_cast<unsigned char>(text[9]);
  const std::string header(text.substr(10, header_size));
  if (header.find("'descr': '<f4'") == std::string::npos) return fail("not little-endian float32");
  if (header.find("'fortran_order': False") == std::string::npos) return fail("not in C order");

  NpyArray array;
  std::size_t count = 1;
  const std::size_t shape_at = header.find("'shape': (");
  if (shape_at == std::string::npos) return fail("no shape");
  const char* at = header.c_str() + shape_at + std::strlen("'shape': (");
  while (*at != ')' && *at != '\0') {
    char* end = nullptr;
    const auto dimension = static_cast<std::size_t>(std::strtoull(at, &end, 10));
    if (end == at) return fail("a shape that can't be read");
    array.shape.push_back(dimension);
    count *= dimension;
    for (at = end; *at == ',' || *at == ' ';) ++at;
  }
  const std::string_view data = text.substr(10 + header.size());
  if (data.size() != count * sizeof(float)) return fail("data and shape don't agree");
  array.values.resize(count);
  if (count > 0) std::memcpy(array.values.data(), data.data(), data.size());
  return array;
}

}  // namespace sluice::test
