#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/error.h"

namespace sluice {

// Of at least one.
inline double median(std::vector<double> values) {
  SLUICE_CHECK(!values.empty());
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace sluice
