#include "cuda/sequences.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"

namespace sluice::cuda {
namespace {

constexpr std::size_t kFp32 = sizeof(float);
constexpr std::size_t kLeast = 256;  // bytes of an allocation that nothing needs

// Of one slot in one layer.
std::size_t delta_bytes(const ModelShape& shape) {
  return std::size_t{shape.n_value_heads} * shape.value_head_dim * shape.key_stride() * kFp32;
}
std::size_t conv_bytes(const ModelShape& shape) {
  return std::size_t{shape.conv_kernel - 1} * shape.conv_dim() * kFp32;
}

std::size_t page_bytes(const ModelShape& shape) {
  return std::size_t{shape.n_attention_layers} * 2 * shape.n_kv_heads * kKvPage * shape.kv_stride() *
         sizeof(std::uint16_t);
}

std::uint32_t pages_of(std::size_t positions) {
  return static_cast<std::uint32_t>((positions + kKvPage - 1) / kKvPage);
}

struct Sizes {
  std::size_t delta, conv, kv, table;
};

Sizes sizes_of(const ModelShape& shape, std::size_t n_slots, std::size_t context) {
  const std::size_t pages = n_slots * pages_of(context);
  return {.delta = std::max(kLeast, shape.n_delta_layers * n_slots * delta_bytes(shape)),
          .conv = std::max(kLeast, 2 * n_slots * shape.n_delta_layers * conv_bytes(shape)),
          .kv = std::max(kLeast, pages * page_bytes(shape)),
          .table = std::max(kLeast, pages * sizeof(std::uint32_t))};
}

}  // namespace

std::size_t sequence_bytes(const ModelShape& shape, std::size_t n_slots, std::size_t context) {
  const Sizes sizes = sizes_of(shape, n_slots, context);
  return sizes.delta + sizes.conv + sizes.kv + sizes.table;
}

Sequences::Sequences(std::shared_ptr<const Context> context, const Stream& stream, const ModelShape& shape,
                     std::size_t n_slots, std::size_t positions)
    : stream_(stream),
      shape_(shape),
      max_pages_(pages_of(positions)),
      pages_(n_slots),
      lengths_(n_slots, 0),
      parity_(n_slots, 0),
      lost_(n_slots, false) {
  const Sizes sizes = sizes_of(shape, n_slots, positions);
  delta_ = DeviceMemory(context, sizes.delta);
  conv_ = DeviceMemory(context, sizes.conv);
  kv_ = DeviceMemory(context, sizes.kv);
  table_ = DeviceMemory(std::move(context), sizes.table);
  delta_.clear(0, sizes.delta, stream_);
  conv_.clear(0, sizes.conv, stream_);
  table_.clear(0, sizes.table, stream_);
  for (std::size_t page = n_slots * max_pages_; page-- > 0;)
    free_pages_.push_back(static_cast<std::uint32_t>(page));
}

States Sequences::states() const {
  States states{};
  states.delta = device_pointer<float>(delta_.address());
  states.conv = device_pointer<float>(conv_.address());
  states.kv = device_pointer<std::uint16_t>(kv_.address());
  states.pages = device_pointer<const std::uint32_t>(table_.address());
  states.n_slots = static_cast<std::uint32_t>(n_slots());
  return states;
}

void Sequences::reset(std::size_t slot) {
  const std::size_t slots = n_slots();
  for (std::size_t layer = 0; layer < shape_.n_delta_layers; ++layer) {
    delta_.clear((layer * slots + slot) * delta_bytes(shape_), delta_bytes(shape_), stream_);
    for (const std::size_t half : {std::size_t{0}, std::size_t{1}}) {
      const std::size_t at = (half * shape_.n_delta_layers + layer) * slots + slot;
      conv_.clear(at * conv_bytes(shape_), conv_bytes(shape_), stream_);
    }
  }
  free_pages_.insert(free_pages_.end(), pages_[slot].begin(), pages_[slot].end());
  pages_[slot].clear();
  lengths_[slot] = 0;
  parity_[slot] = 0;
  lost_[slot] = false;
}

void Sequences::reserve(std::size_t slot, std::size_t length) {
  std::vector<std::uint32_t>& pages = pages_[slot];
  const std::size_t before = pages.size();
  while (pages.size() < pages_of(length)) {
    SLUICE_CHECK(!free_pages_.empty());  // there are enough for the whole context of every slot
    pages.push_back(free_pages_.back());
    free_pages_.pop_back();
  }
  if (pages.size() == before) return;
  // No launch is under way, so nobody reads the table.
  const auto added = std::as_bytes(std::span(pages).subspan(before));
  table_.upload((slot * max_pages_ + before) * sizeof(std::uint32_t), added);
}

void Sequences::advance(std::size_t slot, std::size_t steps, std::size_t rows) {
  lengths_[slot] += steps * rows;
  parity_[slot] ^= static_cast<std::uint32_t>(steps % 2);
}

}  // namespace sluice::cuda
