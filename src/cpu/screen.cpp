#include "cpu/screen.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/bf16.h"
#include "base/error.h"

namespace sluice::cpu {
namespace {

constexpr std::size_t kGroup = 4;
using Floats4 = float __attribute__((vector_size(kGroup * sizeof(float))));
using Words4 = std::uint32_t __attribute__((vector_size(kGroup * sizeof(std::uint32_t))));

constexpr float kMostWeight = 127.0F;
constexpr double kMostActivation = 32639;  // 127 * 256 + 127: both of its bytes are signed

Floats4 load_part(const float* from, std::size_t n) {
  Floats4 values = {};
  std::memcpy(&values, from, n * sizeof(float));
  return values;
}

// The least fp32 that is no less than `value` ≥ 0. Subnormals, too: no relative slack would make up for their rounding.
float up_to_float(double value) {
  const auto rounded = static_cast<float>(value);
  return static_cast<double>(rounded) < value ? std::nextafter(rounded, HUGE_VALF) : rounded;
}

// The same in bf16.
std::uint16_t up_to_bf16(double value) {
  const auto bits = std::bit_cast<std::uint32_t>(up_to_float(value));
  return static_cast<std::uint16_t>((bits >> 16U) + ((bits & 0xFFFFU) != 0 ? 1 : 0));
}

}  // namespace

// In units of t, v = w / t: no square over- or underflows. v is rounded twice, its distance from c is exact. So
// ‖w - t c‖ ≤ t (‖v - c‖ + 2^-22 ‖v‖), but for the rounding of the sums.
void quantize_weights(std::span<const float> weights, std::size_t lane, ScreenHeader& header,
                      std::uint8_t* out) {
  constexpr std::size_t kPart = 1024;     // summed in fp32
  constexpr float kMagic = 0x1.8p+23F;    // adding it rounds to a whole number
  constexpr double kSlack = 1 + 0x1p-14;  // of kPart / 4 + 4 roundings in fp32
  float most = 0;
  for (const float weight : weights) most = std::max(most, std::fabs(weight));
  const float scale = std::max(most / kMostWeight, 0x1p-120F);
  const float inverse = 1.0F / scale;
  double residual = 0;
  double norm = 0;
  for (std::size_t part = 0; part < weights.size(); part += kPart) {
    Floats4 residuals = {};
    Floats4 norms = {};
    const std::size_t end = std::min(part + kPart, weights.size());
    for (std::size_t k = part; k < end; k += kGroup) {
      const Floats4 v = load_part(weights.data() + k, std::min(kGroup, end - k)) * inverse;
      const Floats4 shifted = v + kMagic;
      const Floats4 distance = v - (shifted - kMagic);
      residuals += distance * distance;
      norms += v * v;
      const Words4 bytes = std::bit_cast<Words4>(shifted) + 128;
      for (std::size_t i = 0; i < kGroup; ++i) out[k + i] = static_cast<std::uint8_t>(bytes[i]);
    }
    for (std::size_t i = 0; i < kGroup; ++i) {
      residual += static_cast<double>(residuals[i]);
      norm += static_cast<double>(norms[i]);
    }
  }
  const double units = static_cast<double>(scale) * kSlack;
  header.scale[lane] = most == 0 ? 0 : scale;
  header.norm[lane] = up_to_bf16(units * std::sqrt(norm));
  header.residual[lane] = up_to_bf16(units * (std::sqrt(residual) + 0x1p-22 * std::sqrt(norm)));
}

void ScreenOperand::set(std::span<const float> x) {
  const std::size_t depth = screen_depth(x.size());
  values_.assign(depth, 0);
  halves_.assign(2 * depth, 0);
  row_ = {};
  double most = 0;
  double norm = 0;
  bool is_finite = true;
  for (const float value : x) {
    const double magnitude = std::fabs(static_cast<double>(value));
    is_finite = is_finite && magnitude <= static_cast<double>(std::numeric_limits<float>::max());
    most = std::max(most, magnitude);
    norm += magnitude * magnitude;
  }
  constexpr double kUnit = 0x1p-24;
  const auto n = static_cast<double>(x.size());
  const double roundings = (n + 12) * kUnit;
  if (!is_finite || roundings >= 1) {  // nothing is known
    row_.reach = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const double fitting =
      std::floor(0x1.fffffffcp+30 / (static_cast<double>(kMostWeight) * static_cast<double>(depth)));
  const double levels = std::min(kMostActivation, fitting);
  SLUICE_CHECK(levels >= 1);
  row_.scale = static_cast<float>(most / levels);
  const auto scale = static_cast<double>(row_.scale);
  constexpr double kMagic = 0x1.8p+52;  // adding it rounds to a whole number
  double error = 0;
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    const auto value = static_cast<double>(x[k]);
    const double whole = scale == 0 ? 0 : std::clamp((value / scale + kMagic) - kMagic, -levels, levels);
    const double distance = value - scale * whole;
    error += distance * distance;
    const auto q = static_cast<std::int32_t>(whole);
    sum += q;
    const std::int32_t high = (q + 128) >> 8;
    const std::size_t group = k / kGroup * 2 * kGroup + k % kGroup;
    values_[k] = static_cast<std::int16_t>(q);
    halves_[group] = static_cast<std::int8_t>(high);
    halves_[group + kGroup] = static_cast<std::int8_t>(q - high * 256);
  }
  row_.offset = static_cast<std::uint32_t>(128 * sum);

  constexpr double kSlack = 1 + 0x1p-16;
  const double reach = std::sqrt(norm) + std::sqrt(error);
  const double gamma = roundings / (1 - roundings);
  row_.reach = up_to_float(kSlack * reach);
  row_.blur = up_to_float(kSlack * (std::sqrt(error) + gamma * reach + 0x1p-126 * std::sqrt(n)));
  row_.least = up_to_float(kSlack * (0x1p-118 + 0x1p-125 * (n + 2) + 0x1p-126 * std::sqrt(n) * reach));
}

ScreenRow ScreenOperand::row() const {
  ScreenRow row = row_;
  row.values = values_.data();
  row.halves = halves_.data();
  return row;
}

}  // namespace sluice::cpu
