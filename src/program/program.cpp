#include "program/program.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "program/screening.h"

namespace sluice::program {

std::uint32_t StepShape::n_rows() const {
  std::uint32_t rows = 0;
  for (const SpanShape& span : spans) rows += span.n_rows;
  return rows;
}

std::uint32_t kv_splits_of(std::uint32_t n_rows, std::size_t length) {
  if (n_rows > kMaxShortSpan) return 1;
  return static_cast<std::uint32_t>((std::bit_ceil(std::max<std::size_t>(length, 1)) + kKvSplit - 1) /
                                    kKvSplit);
}

std::string_view name_of(OpKind kind) {
  switch (kind) {
    case OpKind::kEmbed:
      return "embed";
    case OpKind::kMixIn:
      return "mix_in";
    case OpKind::kKvAppend:
      return "kv_append";
    case OpKind::kMix:
      return "mix";
    case OpKind::kMixMerge:
      return "mix_merge";
    case OpKind::kMixOut:
      return "mix_out";
    case OpKind::kMlpIn:
      return "mlp_in";
    case OpKind::kMlpOut:
      return "mlp_out";
    case OpKind::kHead:
      return "head";
    case OpKind::kSkim:
      return "skim";
    case OpKind::kScreen:
      return "screen";
    case OpKind::kSelect:
      return "select";
    case OpKind::kRecompute:
      return "recompute";
    case OpKind::kSample:
      return "sample";
  }
  return "?";
}

ProjectionLayout projection_layout(const model::ModelConfig& config, model::LayerKind kind) {
  ProjectionLayout layout;
  const auto take = [&layout](std::size_t width) {
    const Columns columns{layout.width, layout.width + static_cast<std::uint32_t>(width)};
    layout.width = columns.end;
    return columns;
  };
  if (kind == model::LayerKind::kDeltaNet) {
    layout.q = take(config.key_dim());
    layout.k = take(config.key_dim());
    layout.v = take(config.value_dim());
    layout.z = take(config.value_dim());
    layout.b = take(config.n_value_heads);
    layout.a = take(config.n_value_heads);
  } else {
    layout.q = take(config.query_dim());
    layout.gate = take(config.query_dim());
    layout.k = take(config.kv_dim());
    layout.v = take(config.kv_dim());
  }
  return layout;
}

std::uint32_t skimmed_columns(std::size_t vocab_size) {
  constexpr std::size_t kLeast = 512;  // of which a sixteenth tells something
  constexpr std::size_t kShare = 16;
  return vocab_size < kLeast ? 0
                             : static_cast<std::uint32_t>(vocab_size / kShare / kScreenPanel * kScreenPanel);
}

Columns screened_columns(OpKind kind, std::size_t vocab_size) {
  const std::uint32_t n_skimmed = skimmed_columns(vocab_size);
  if (kind == OpKind::kSkim) return {0, n_skimmed};
  return {n_skimmed, static_cast<std::uint32_t>(vocab_size)};
}

std::uint32_t Program::span_of_row(std::uint32_t row) const {
  const auto after = std::upper_bound(first_row.begin(), first_row.end(), row);
  SLUICE_CHECK(after != first_row.begin() && after != first_row.end());
  return static_cast<std::uint32_t>(after - first_row.begin()) - 1;
}

}  // namespace sluice::program
