// Writes safetensors files, right ones and wrong ones.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace sluice::test {

struct StoredTensor {
  std::string name;
  std::string dtype;  // as the header spells it
  std::vector<std::size_t> shape;
  std::string bytes;
};

// A file of any header and data: the header's length, the header, the data.
inline std::string safetensors_file(std::string_view header, std::string_view data) {
  std::string file;
  for (unsigned i = 0; i < 8; ++i)
    file += static_cast<char>(static_cast<unsigned char>(std::uint64_t{header.size()} >> (8 * i)));
  file += header;
  return file += data;
}

// A file of `tensors`, their data in the order given. `padding` spaces end the header: the data then begins at
// any offset, aligned or not.
inline std::string safetensors_file(const std::vector<StoredTensor>& tensors, std::size_t padding = 0) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const StoredTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return safetensors_file(header.dump() + std::string(padding, ' '), data);
}

}  // namespace sluice::test
