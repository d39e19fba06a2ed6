// All that a forms_ISA.cpp consists of; SLUICE_PTX_ISA is the name of its namespace.
#pragma once

#include "ptx/forms_convert.h"
#include "ptx/forms_core.h"
#include "ptx/forms_float.h"
#include "ptx/forms_integer.h"
#include "ptx/forms_matrix.h"

namespace sluice::ptx::SLUICE_PTX_ISA {

inline AddressSummary summarize_addresses(const void* base, bool wide, std::int64_t offset,
                                          std::uint32_t mask, std::uint32_t size, std::uint64_t* addresses) {
  const auto add = static_cast<std::uint64_t>(offset);
  if (wide) {
    const auto* lanes = static_cast<const std::uint64_t*>(base);
    for (int i = 0; i < kN; ++i) addresses[i] = lanes[i] + add;
  } else {
    const auto* lanes = static_cast<const std::uint32_t*>(base);
    for (int i = 0; i < kN; ++i)
      addresses[i] = static_cast<std::uint32_t>(lanes[i] + static_cast<std::uint32_t>(add));
  }
  if (mask != ~0U) {
    const std::uint64_t some = addresses[std::countr_zero(mask)];
    for (int i = 0; i < kN; ++i)
      addresses[i] = ((mask >> static_cast<unsigned>(i)) & 1U) != 0 ? addresses[i] : some;
  }
  AddressSummary summary{~std::uint64_t{0}, 0, 0, false};
  const std::uint64_t first = addresses[0];
  std::uint64_t apart = 0;
  for (int i = 0; i < kN; ++i) {
    summary.lowest = addresses[i] < summary.lowest ? addresses[i] : summary.lowest;
    summary.highest = addresses[i] > summary.highest ? addresses[i] : summary.highest;
    summary.bits |= addresses[i];
    apart |= addresses[i] ^ (first + static_cast<std::uint64_t>(i) * size);
  }
  summary.contiguous = mask == ~0U && apart == 0;
  return summary;
}

inline void list_forms(FormTable& table) {
  list_integer(table);
  list_single_and_double(table);
  list_half(table);
  list_comparisons(table);
  list_moves(table);
  list_conversions(table);
  list_matrix(table);
}

}  // namespace sluice::ptx::SLUICE_PTX_ISA
