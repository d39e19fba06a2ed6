#include "model/weights.h"

#include "base/error.h"

namespace sluice::model {

void Matrix::read_row(std::size_t row, std::span<float> out) const {
  SLUICE_CHECK(row < rows && out.size() == cols);
  const std::size_t first = row_order.stored_index(row) * cols;
  if (col_order.stored.empty()) {
    to_float(dtype, data, first, out);
    return;
  }
  // Columns of a head stay together, so a row is read head by head.
  const std::size_t begin = col_order.begin;
  const std::size_t head_size = col_order.head_size;
  SLUICE_CHECK(begin + col_order.stored.size() * head_size == cols);
  to_float(dtype, data, first, out.first(begin));
  for (std::size_t head = 0; head < col_order.stored.size(); ++head) {
    const std::size_t from = begin + col_order.stored[head] * head_size;
    to_float(dtype, data, first + from, out.subspan(begin + head * head_size, head_size));
  }
}

}  // namespace sluice::model
