// The ops of docs/models.md §2, one by one, in plain loops over T = float or double: activations and sums are
// T, weights are what the checkpoint holds (exact in fp32). Shapes stand in brackets, row-major.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/weights.h"

namespace sluice::oracle {

template <typename T>
T sigmoid(T x);  // 1 / (1 + e^-x)

template <typename T>
T silu(T x);  // x sigmoid(x)

template <typename T>
T softplus(T x);  // log(1 + e^x), without overflow

// y = W x: x [cols] → [rows].
template <typename T>
std::vector<T> multiply(const model::Matrix& weight, std::span<const T> x);

// x / sqrt(mean(x²) + eps) * weight: [n]. `weight` is the plain multiplier (canonical weights hold 1 + w).
template <typename T>
std::vector<T> rms_norm(std::span<const T> x, std::span<const float> weight, T eps);

// x /= sqrt(Σx² + 1e-6), in place: the SUM of squares, and the 1e-6 is not the config's eps.
template <typename T>
void l2_normalize(std::span<T> x);

// RoPE in place on the first `rotary_dim` entries of head [head_dim]: pairs (j, j + rotary_dim / 2) turn by
// position * theta^(-2j / rotary_dim). That angle is computed in fp32 for either T: it is part of the model,
// which was trained with it, and at position 32768 it is up to 2e-3 off the exact one. Only its cosine and
// sine are T.
template <typename T>
void rotary_embedding(std::span<T> head, std::size_t rotary_dim, double theta, std::size_t position);

// softmax(q·K / sqrt(head_dim)) V of one query head over all cached positions: query [head_dim]; keys, values
// [length, n_kv_heads, head_dim], of which head `kv_head` is used → [head_dim].
template <typename T>
std::vector<T> attend(std::span<const T> query, std::span<const T> keys, std::span<const T> values,
                      std::size_t n_kv_heads, std::size_t kv_head);

// One step of the causal depthwise convolution of one channel: the sum of taps [kernel] times the kernel - 1
// earlier inputs in `state` (oldest first) and `input`, which then joins the state.
template <typename T>
T conv_step(std::span<T> state, std::span<const float> taps, T input);

// One step of the gated delta rule of one V head: state [value_head_dim, key_head_dim] (S transposed), query
// and key [key_head_dim] normalised, query scaled, value [value_head_dim], log decay g <= 0, 0 < beta < 1 →
// [value_head_dim]. Gated Delta Networks (Yang, Kautz, Hatamizadeh, 2024), equation 10.
template <typename T>
std::vector<T> delta_rule_step(std::span<T> state, std::span<const T> query, std::span<const T> key,
                               std::span<const T> value, T g, T beta);

// rms_norm(x, weight) * silu(gate): norm first, then the gate. All [value_head_dim].
template <typename T>
std::vector<T> gated_norm(std::span<const T> x, std::span<const T> gate, std::span<const float> weight,
                          T eps);

}  // namespace sluice::oracle
