// The golden tolerance bites: each known way to get this model wrong, made by altering the loaded model in memory,
// moves the logits by at least ten tolerances on every golden checkpoint that it applies to. Most of these mistakes
// have happened elsewhere (docs/models.md §7).
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/weights.h"
#include "oracle/oracle.h"
#include "tests/support/golden.h"

namespace sluice {
namespace {

using model::AttentionWeights;
using model::DeltaNetWeights;
using model::Matrix;
using model::Model;
using model::ModelConfig;

constexpr double kTolerance = 1e-5;  // golden_test.cpp derives it
constexpr std::size_t kRows = 16;    // of the longest prompt: causal, so its first rows stand alone

struct Mutation {
  const char* name;
  std::function<bool(Model&)> apply;  // false: means nothing for this model
};

// `change` on every mixer of one kind; false if there is none.
template <typename Mixer, typename Change>
bool for_each(Model& model, Change change) {
  bool any = false;
  for (model::LayerWeights& layer : model.weights.layers) {
    if (auto* mixer = std::get_if<Mixer>(&layer.mixer)) {
      change(*mixer);
      any = true;
    }
  }
  return any;
}

void shift(std::vector<float>& values, float by) {
  for (float& value : values) value += by;
}

using IndexMap = std::function<std::size_t(std::size_t)>;

// `n` indices cut into units of `width`: unit u now shows what unit from(u) showed.
model::HeadOrder rearranged(const model::HeadOrder& order, std::size_t n, std::size_t width,
                            const IndexMap& from) {
  model::HeadOrder result{.begin = 0, .head_size = 1, .stored = {}};
  for (std::size_t i = 0; i < n; ++i)
    result.stored.push_back(order.stored_index(from(i / width) * width + i % width));
  return result;
}

void move_rows(Matrix& matrix, std::size_t width, const IndexMap& from) {
  matrix.row_order = rearranged(matrix.row_order, matrix.rows, width, from);
}

void move_columns(Matrix& matrix, std::size_t width, const IndexMap& from) {
  matrix.col_order = rearranged(matrix.col_order, matrix.cols, width, from);
}

// [heads] or [heads, width] values.
void move_values(std::vector<float>& values, std::size_t width, const IndexMap& from) {
  const std::vector<float> old = values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = old[from(i / width) * width + i % width];
}

// Whether tiled and grouped V-head order differ.
bool has_two_orders(const ModelConfig& config) {
  return config.n_key_heads > 1 && config.n_value_heads > config.n_key_heads;
}

// Takes V heads for grouped that are tiled: head hv shows what stands at its place in the other order.
IndexMap v_heads_in_the_other_order(const ModelConfig& config) {
  return [keys = config.n_key_heads, ratio = config.n_value_heads / config.n_key_heads](std::size_t hv) {
    return hv % ratio * keys + hv / ratio;
  };
}

// Pairs (2j, 2j + 1) where (j, j + rotary_dim / 2) is meant.
IndexMap neighbours_as_pairs(std::size_t rotary_dim) {
  return [half = rotary_dim / 2](std::size_t i) {
    if (i >= 2 * half) return i;
    return i < half ? 2 * i : 2 * (i - half) + 1;
  };
}

std::vector<Mutation> norm_mutations() {
  return {
      {"final_norm_without_one", [](Model& m) { return shift(m.weights.norm, -1.0F), true; }},
      {"mix_norm_without_one",
       [](Model& m) {
         for (auto& layer : m.weights.layers) shift(layer.mix_norm, -1.0F);
         return true;
       }},
      {"mlp_norm_with_one_twice",
       [](Model& m) {
         for (auto& layer : m.weights.layers) shift(layer.mlp_norm, 1.0F);
         return true;
       }},
      {"q_norm_without_one",
       [](Model& m) { return for_each<AttentionWeights>(m, [](auto& w) { shift(w.q_norm, -1.0F); }); }},
      {"k_norm_without_one",
       [](Model& m) { return for_each<AttentionWeights>(m, [](auto& w) { shift(w.k_norm, -1.0F); }); }},
      {"gated_norm_with_one",
       [](Model& m) { return for_each<DeltaNetWeights>(m, [](auto& w) { shift(w.norm, 1.0F); }); }},
      {"one_norm_weight_a_hundredth_off",
       [](Model& m) { return m.weights.layers[0].mix_norm[0] *= 1.01F, true; }},
      {"epsilon_of_another_model",
       [](Model& m) { return m.config.rms_norm_eps > 1e-5 ? m.config.rms_norm_eps = 1e-6, true : false; }},
  };
}

std::vector<Mutation> delta_net_mutations() {
  return {
      {"key_heads_grouped",
       [](Model& m) {
         const std::size_t ratio = m.config.n_value_heads / m.config.n_key_heads;
         if (!has_two_orders(m.config)) return false;
         return for_each<DeltaNetWeights>(m, [&](auto& w) {
           for (std::size_t hv = 0; hv < w.key_head.size(); ++hv) w.key_head[hv] = hv / ratio;
         });
       }},
      {"v_rows_not_reordered",
       [](Model& m) {
         return has_two_orders(m.config) &&
                for_each<DeltaNetWeights>(m, [](auto& w) { w.qkv.row_order = {}; });
       }},
      {"v_taps_not_reordered",
       [](Model& m) {
         const std::size_t v_at = 2 * m.config.key_dim();
         const std::size_t size = m.config.value_head_dim;
         const IndexMap other = v_heads_in_the_other_order(m.config);
         const IndexMap channel = [=](std::size_t c) {
           return c < v_at ? c : v_at + other((c - v_at) / size) * size + (c - v_at) % size;
         };
         return has_two_orders(m.config) && for_each<DeltaNetWeights>(m, [&](auto& w) {
                  move_values(w.conv, m.config.conv_kernel, channel);
                });
       }},
      {"z_not_reordered",
       [](Model& m) {
         return has_two_orders(m.config) && for_each<DeltaNetWeights>(m, [](auto& w) { w.z.row_order = {}; });
       }},
      {"b_not_reordered",
       [](Model& m) {
         return has_two_orders(m.config) && for_each<DeltaNetWeights>(m, [](auto& w) { w.b.row_order = {}; });
       }},
      {"a_not_reordered",
       [](Model& m) {
         return has_two_orders(m.config) && for_each<DeltaNetWeights>(m, [](auto& w) { w.a.row_order = {}; });
       }},
      {"decay_not_reordered",
       [](Model& m) {
         const IndexMap other = v_heads_in_the_other_order(m.config);
         return has_two_orders(m.config) &&
                for_each<DeltaNetWeights>(m, [&](auto& w) { move_values(w.decay, 1, other); });
       }},
      {"dt_bias_not_reordered",
       [](Model& m) {
         const IndexMap other = v_heads_in_the_other_order(m.config);
         return has_two_orders(m.config) &&
                for_each<DeltaNetWeights>(m, [&](auto& w) { move_values(w.dt_bias, 1, other); });
       }},
      {"out_columns_not_reordered",
       [](Model& m) {
         return has_two_orders(m.config) &&
                for_each<DeltaNetWeights>(m, [](auto& w) { w.out.col_order = {}; });
       }},
      {"decay_is_raw_a_log",
       [](Model& m) {
         return for_each<DeltaNetWeights>(m, [](auto& w) {
           for (float& decay : w.decay) decay = std::log(-decay);
         });
       }},
      {"decay_grows",
       [](Model& m) {
         return for_each<DeltaNetWeights>(m, [](auto& w) {
           for (float& decay : w.decay) decay = -decay;
         });
       }},
      {"no_decay",
       [](Model& m) {
         return for_each<DeltaNetWeights>(m, [](auto& w) { w.decay.assign(w.decay.size(), 0.0F); });
       }},
      {"no_dt_bias",
       [](Model& m) {
         return for_each<DeltaNetWeights>(m, [](auto& w) { w.dt_bias.assign(w.dt_bias.size(), 0.0F); });
       }},
      {"a_and_b_exchanged",
       [](Model& m) { return for_each<DeltaNetWeights>(m, [](auto& w) { std::swap(w.a, w.b); }); }},
      {"query_and_key_exchanged",
       [](Model& m) {
         const std::size_t size = m.config.key_dim();
         const IndexMap other = [=](std::size_t c) {
           return c < size ? c + size : c < 2 * size ? c - size : c;
         };
         return for_each<DeltaNetWeights>(m, [&](auto& w) {
           move_rows(w.qkv, 1, other);
           move_values(w.conv, m.config.conv_kernel, other);
         });
       }},
      {"conv_taps_reversed",
       [](Model& m) {
         const std::size_t kernel = m.config.conv_kernel;
         return for_each<DeltaNetWeights>(m, [=](auto& w) {
           move_values(w.conv, 1,
                       [=](std::size_t i) { return i / kernel * kernel + kernel - 1 - i % kernel; });
         });
       }},
      {"conv_one_token_late",
       [](Model& m) {
         const std::size_t kernel = m.config.conv_kernel;
         return for_each<DeltaNetWeights>(m, [=](auto& w) {
           for (std::size_t c = 0; c < w.conv.size(); c += kernel) {
             for (std::size_t j = 0; j + 1 < kernel; ++j) w.conv[c + j] = w.conv[c + j + 1];
             w.conv[c + kernel - 1] = 0.0F;
           }
         });
       }},
  };
}

std::vector<Mutation> attention_mutations() {
  return {
      {"query_and_gate_flat",
       [](Model& m) {
         const std::size_t heads = m.config.n_heads;
         return heads > 1 && for_each<AttentionWeights>(m, [&](auto& w) {
                  move_rows(w.q_gate, m.config.head_dim,
                            [=](std::size_t u) { return u / 2 + u % 2 * heads; });
                });
       }},
      {"query_and_gate_exchanged",
       [](Model& m) {
         return for_each<AttentionWeights>(m, [&](auto& w) {
           move_rows(w.q_gate, m.config.head_dim, [](std::size_t u) { return u ^ 1U; });
         });
       }},
      {"query_heads_tiled_over_kv_heads",
       [](Model& m) {
         const std::size_t kv = m.config.n_kv_heads;
         const std::size_t ratio = m.config.n_heads / kv;
         const IndexMap head = [=](std::size_t h) { return h % ratio * kv + h / ratio; };
         return kv > 1 && ratio > 1 && for_each<AttentionWeights>(m, [&](auto& w) {
                  move_rows(w.q_gate, 2 * m.config.head_dim, head);
                  move_columns(w.out, m.config.head_dim, head);
                });
       }},
      {"key_and_value_exchanged",
       [](Model& m) { return for_each<AttentionWeights>(m, [](auto& w) { std::swap(w.k, w.v); }); }},
      {"rotary_pairs_are_neighbours",
       [](Model& m) {
         const std::size_t size = m.config.head_dim;
         const IndexMap pair = neighbours_as_pairs(m.config.rotary_dim);
         const IndexMap in_head = [=](std::size_t i) { return i / size * size + pair(i % size); };
         const IndexMap in_query = [=](std::size_t i) { return i / size % 2 == 0 ? in_head(i) : i; };
         return m.config.rotary_dim > 2 && for_each<AttentionWeights>(m, [&](auto& w) {
                  move_rows(w.q_gate, 1, in_query);
                  move_rows(w.k, 1, in_head);
                  move_values(w.q_norm, 1, pair);
                  move_values(w.k_norm, 1, pair);
                });
       }},
      {"rotary_dim_halved",
       [](Model& m) {
         const std::size_t half = m.config.rotary_dim / 4 * 2;
         return half > 0 ? m.config.rotary_dim = half, true : false;
       }},
      {"rotary_over_the_whole_head",
       [](Model& m) { return std::exchange(m.config.rotary_dim, m.config.head_dim) != m.config.head_dim; }},
      {"theta_four_times", [](Model& m) { return m.config.rope_theta *= 4, m.config.rotary_dim > 2; }},
  };
}

std::vector<Mutation> other_mutations() {
  return {
      {"gate_and_up_exchanged",
       [](Model& m) {
         for (auto& layer : m.weights.layers) std::swap(layer.mlp.gate, layer.mlp.up);
         return true;
       }},
      {"untied_head_taken_for_tied",
       [](Model& m) {
         return m.config.tie_word_embeddings ? false : (m.weights.head = m.weights.embedding, true);
       }},
      {"first_layer_last",
       [](Model& m) {
         std::rotate(m.weights.layers.begin(), m.weights.layers.begin() + 1, m.weights.layers.end());
         std::rotate(m.config.layers.begin(), m.config.layers.begin() + 1, m.config.layers.end());
         return true;
       }},
  };
}

std::vector<Mutation> mutations() {
  std::vector<Mutation> all;
  for (auto* group : {&norm_mutations, &delta_net_mutations, &attention_mutations, &other_mutations})
    for (Mutation& mutation : group()) all.push_back(std::move(mutation));
  return all;
}

struct Case {
  std::string name;
  Model model;
  std::vector<std::int32_t> tokens;
  std::vector<float> logits;  // [tokens, vocab]
};

std::vector<Case> load_cases() {
  std::vector<Case> cases;
  for (const std::string& name : test::golden_cases()) {
    auto prompts = test::golden_prompts(name);
    auto longest = std::max_element(prompts.begin(), prompts.end(), [](const auto& a, const auto& b) {
      return a.tokens.size() < b.tokens.size();
    });
    Model model = model::load_model(test::golden_folder(name));
    longest->tokens.resize(std::min(kRows, longest->tokens.size()));
    longest->logits.values.resize(longest->tokens.size() * model.config.vocab_size);
    cases.push_back({name, std::move(model), longest->tokens, longest->logits.values});
  }
  return cases;
}

double error_of(const Model& model, const Case& wanted) {
  auto state = oracle::empty_state<float>(model.config);
  std::vector<float> all;
  for (const std::int32_t token : wanted.tokens) {
    const std::vector<float> logits = oracle::logits<float>(model, oracle::feed<float>(model, state, token));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return test::relative_rms<float>(all, wanted.logits);
}

class GoldenMutation : public ::testing::TestWithParam<Mutation> {};

TEST_P(GoldenMutation, IsSeenOnEveryCheckpoint) {
  std::size_t applied = 0;
  double smallest = std::numeric_limits<double>::infinity();
  for (const Case& golden : load_cases()) {
    SCOPED_TRACE(golden.name);
    Model mutated = golden.model;
    if (!GetParam().apply(mutated)) continue;
    ++applied;
    const double error = error_of(mutated, golden);
    smallest = std::min(smallest, error);
    EXPECT_GE(error, 10 * kTolerance);
  }
  RecordProperty("smallest_relative_rms", fmt::format("{:.1e}", smallest));
  EXPECT_GE(applied, 2U);
}

INSTANTIATE_TEST_SUITE_P(Known, GoldenMutation, ::testing::ValuesIn(mutations()),
                         [](const auto& info) { return info.param.name; });

// What the mutations are measured with: the same rows without one.
TEST(GoldenMutationBaseline, IsWithinTheTolerance) {
  for (const Case& golden : load_cases()) {
    SCOPED_TRACE(golden.name);
    EXPECT_LE(error_of(golden.model, golden), kTolerance);
  }
}

}  // namespace
}  // namespace sluice
