#include "cpu/delta_chunk.h"

#include <algorithm>

namespace sluice::cpu {
namespace {

constexpr std::size_t padded(std::size_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

template <typename Values>
void room_for(Values& values, std::size_t n) {
  if (values.size() < n) values.resize(n);
}

}  // namespace

DeltaChunk::DeltaChunk(const Kernels& kernels, std::size_t key_dim, std::size_t value_dim,
                       DeltaScratch& scratch)
    : k_(kernels),
      key_dim_(key_dim),
      value_dim_(value_dim),
      depth_(padded(key_dim)),
      width_(padded(value_dim)),
      is_bf16_(kernels.activations == ActivationType::kBF16),
      s_(scratch) {
  constexpr std::size_t kRows = kMaxDeltaChunk;
  room_for(s_.products, 2 * kRows * kRows);
  room_for(s_.factors, 2 * kRows * kRows);
  room_for(s_.sums, 2 * kRows * width_);
  if (!is_bf16_) {
    room_for(s_.scaled, 2 * kRows * key_dim);
    room_for(s_.transposed, key_dim * kRows);
    return;
  }
  room_for(s_.change, std::max(key_dim, kRows) * width_);
  room_for(s_.rows, 2 * kRows * depth_);
  room_for(s_.packed_keys, kRows * depth_);
  room_for(s_.transposed_keys, depth_ * kRows);
  room_for(s_.packed_state, depth_ * width_);
  room_for(s_.packed_values, kRows * width_);
  room_for(s_.weights, kRows * kRows);
}

std::size_t DeltaChunk::max_rows(const Kernels& kernels) {
  return kernels.activations == ActivationType::kBF16 ? kMaxDeltaChunk : kMaxDeltaChunk / 2;  // as measured
}

void DeltaChunk::set_keys(const float* query, const float* key, std::size_t rows) {
  query_ = query;
  key_ = key;
  rows_ = rows;
  ld_ = padded(rows);
  is_bf16_ ? set_keys_bf16() : set_keys_f32();
}

void DeltaChunk::set_keys_f32() {
  const DeltaChunkKernels& k = k_.delta_chunk;
  float* const products = s_.products.data();
  k.transpose(key_, rows_, key_dim_, s_.transposed.data(), ld_);
  k.multiply(key_, key_dim_, rows_, s_.transposed.data(), ld_, key_dim_, ld_, 0.0F, products, ld_);
  k.multiply(query_, key_dim_, rows_, s_.transposed.data(), ld_, key_dim_, ld_, 0.0F, products + rows_ * ld_,
             ld_);
}

void DeltaChunk::set_keys_bf16() {
  round_rows(key_, s_.rows.data());
  round_rows(query_, s_.rows.data() + rows_ * depth_);
  k_.pack_keys(s_.rows.data(), rows_, depth_, s_.packed_keys.data());
  k_.delta_chunk.unpack_transposed(s_.packed_keys.data(), depth_, ld_ / kLanes, s_.transposed_keys.data());
  k_.matmul_bf16_long(s_.packed_keys.data(), depth_, ld_ / kLanes, s_.rows.data(), depth_, 2 * rows_,
                      s_.products.data(), ld_, {});
}

void DeltaChunk::run(const float* value, const float* decay, const float* beta, float* state, float* out) {
  make_gates(decay, beta);
  k_.delta_chunk.decay_products(s_.products.data(), decay, beta, rows_, ld_, s_.factors.data());
  is_bf16_ ? run_bf16(value, beta, state, out) : run_f32(value, beta, state, out);
}

void DeltaChunk::make_gates(const float* decay, const float* beta) {
  float product = 1.0F;
  for (std::size_t i = 0; i < rows_; ++i) {
    product *= decay[i];
    from_start_[i] = product;
    key_scale_[i] = -beta[i] * product;
  }
  product = 1.0F;
  for (std::size_t i = rows_; i-- > 0; product *= decay[i]) to_end_[i] = product;
}

void DeltaChunk::run_f32(const float* value, const float* beta, float* state, float* out) {
  const DeltaChunkKernels& k = k_.delta_chunk;
  float* const keys = s_.scaled.data();
  float* const queries = keys + rows_ * key_dim_;
  float* const delta = s_.sums.data();
  k.scale_rows(key_scale_.data(), key_, key_dim_, nullptr, rows_, key_dim_, keys, key_dim_);
  k.scale_rows(beta, value, value_dim_, nullptr, rows_, value_dim_, delta, width_);
  k.multiply(keys, key_dim_, rows_, state, value_dim_, key_dim_, value_dim_, 1.0F, delta, width_);
  k.solve(s_.factors.data(), ld_, rows_, delta, width_);

  k.scale_rows(from_start_.data(), query_, key_dim_, nullptr, rows_, key_dim_, queries, key_dim_);
  k.multiply(queries, key_dim_, rows_, state, value_dim_, key_dim_, value_dim_, 0.0F, out, value_dim_);
  k.multiply(s_.factors.data() + rows_ * ld_, ld_, rows_, delta, width_, rows_, value_dim_, 1.0F, out,
             value_dim_);

  k.scale_rows(to_end_.data(), delta, width_, nullptr, rows_, value_dim_, delta, width_);
  k.multiply(s_.transposed.data(), ld_, key_dim_, delta, width_, rows_, value_dim_, from_start_[rows_ - 1],
             state, value_dim_);
}

void DeltaChunk::run_bf16(const float* value, const float* beta, float* state, float* out) {
  const DeltaChunkKernels& k = k_.delta_chunk;
  float* const delta = s_.sums.data();
  k.pack_rows(state, value_dim_, key_dim_, value_dim_, nullptr, s_.packed_state.data());
  multiply(s_.packed_state, depth_, s_.rows, 2 * rows_, delta);
  k.scale_rows(beta, value, value_dim_, key_scale_.data(), rows_, value_dim_, delta, width_);
  k.solve(s_.factors.data(), ld_, rows_, delta, width_);

  float* const change = s_.change.data();
  k_.to_bf16(s_.factors.data() + rows_ * ld_, rows_ * ld_, s_.weights.data());
  k.pack_rows(delta, width_, rows_, value_dim_, nullptr, s_.packed_values.data());
  multiply(s_.packed_values, ld_, s_.weights, rows_, change);
  k.scale_rows(from_start_.data(), delta + rows_ * width_, width_, nullptr, rows_, value_dim_, out,
               value_dim_);
  for (std::size_t i = 0; i < rows_; ++i) k_.add(change + i * width_, value_dim_, out + i * value_dim_);

  k.pack_rows(delta, width_, rows_, value_dim_, to_end_.data(), s_.packed_values.data());
  multiply(s_.packed_values, ld_, s_.transposed_keys, key_dim_, change);
  const float kept = from_start_[rows_ - 1];
  for (std::size_t i = 0; i < key_dim_; ++i)
    k_.scale_and_add(change + i * width_, kept, value_dim_, state + i * value_dim_);
}

// y [rows, width_] = x [rows, depth] times as many packed columns.
void DeltaChunk::multiply(const Bf16Block& packed, std::size_t depth, const Bf16Block& x, std::size_t rows,
                          float* y) const {
  k_.matmul_bf16_long(packed.data(), depth, width_ / kLanes, x.data(), depth, rows, y, width_, {});
}

// x [rows_, key_dim_] as [rows_, depth_], zeros behind.
void DeltaChunk::round_rows(const float* x, std::uint16_t* to) const {
  if (key_dim_ == depth_) {
    k_.to_bf16(x, rows_ * depth_, to);
    return;
  }
  for (std::size_t i = 0; i < rows_; ++i, x += key_dim_, to += depth_) {
    k_.to_bf16(x, key_dim_, to);
    std::fill(to + key_dim_, to + depth_, std::uint16_t{0});
  }
}

}  // namespace sluice::cpu
