"""Mistakes in the oracle's maths and in how it keeps states."""

from mutations import Mutation

OPS = "oracle/ops.cpp"
STEP = "oracle/oracle.cpp"
BACKEND = "oracle/backend.cpp"


def rounded_state(bits: int) -> str:
    """An update of the delta rule's state that keeps so many significant bits."""
    return ("{ int e = 0; const T m = std::frexp(row[j] + key[j] * delta, &e);"
            f" row[j] = std::ldexp(std::nearbyint(std::ldexp(m, {bits})), e - {bits}); }}")


UPDATE = "row[j] += key[j] * delta;"
FOR_ROWS = "for (std::size_t row = span.first_row; row < span.first_row + span.n_rows; ++row) {"
SPAN = "for (const program::Span& span : step.spans) {"
RESET = "slots_[slot] = empty_state<float>(model_.config);"


def before_span(statement: str) -> str:
    return f"{SPAN} for (auto& layer : slots_[span.slot].layers) {{ {statement} }}"


def from_previous_span(member: str) -> str:
    """A span goes on with the state that the one before it in the step left."""
    return (f"{SPAN} if (&span != step.spans.data()) for (std::size_t i = 0; i < slots_[span.slot].layers.size(); ++i)"
            f" slots_[span.slot].layers[i].{member} = slots_[(&span - 1)->slot].layers[i].{member};")


def kept_by_reset(member: str) -> str:
    return ("SequenceState<float> fresh = empty_state<float>(model_.config);"
            f" for (std::size_t i = 0; i < fresh.layers.size(); ++i) fresh.layers[i].{member} ="
            f" slots_[slot].layers[i].{member}; slots_[slot] = fresh;")


STATE = [
    Mutation("state_in_bf16", "§7.1 recurrent state rounded to bf16 at every token", OPS, UPDATE, rounded_state(8)),
    Mutation("state_in_fp16", "§7.1 recurrent state rounded to fp16 at every token", OPS, UPDATE, rounded_state(11)),
    Mutation(
        "state_in_bf16_between_steps", "§7.1 recurrent state stored in bf16 between steps", BACKEND, SPAN,
        before_span("for (float& s : layer.delta_state) { int e = 0; const float m = __builtin_frexpf(s, &e);"
                    " s = __builtin_ldexpf(__builtin_nearbyintf(__builtin_ldexpf(m, 8)), e - 8); }")),
    Mutation("state_restarts_at_a_step", "§7.6 a resumed prompt starts with S = 0", BACKEND, SPAN,
             before_span("layer.delta_state.assign(layer.delta_state.size(), 0.0F);")),
    Mutation("conv_state_restarts_at_a_step", "§7.6 a resumed prompt starts with an empty convolution", BACKEND, SPAN,
             before_span("layer.conv_state.assign(layer.conv_state.size(), 0.0F);")),
    Mutation(
        "conv_state_lost_by_a_short_step", "§7.6 a step of fewer rows than taps loses the older inputs", BACKEND, SPAN,
        before_span("if (span.n_rows + 1 < model_.config.conv_kernel)"
                    " layer.conv_state.assign(layer.conv_state.size(), 0.0F);")),
    Mutation("conv_state_not_updated", "§7.6 the convolution never keeps its inputs", OPS, "state.back() = input;",
             "state.back() = 0;"),
    Mutation("conv_state_one_token_short", "§7.6 the convolution's state is not shifted", OPS,
             "std::copy(state.begin() + 1, state.end(), state.begin());", ";"),
    Mutation("packed_sequences_share_conv", "§7.6 sequences packed in one step leak through the convolution", BACKEND,
             SPAN, from_previous_span("conv_state")),
    Mutation("packed_sequences_share_state", "§7.6 sequences packed in one step leak through S", BACKEND, SPAN,
             from_previous_span("delta_state")),
    Mutation("reset_keeps_state", "§7.6 a reused slot starts with its last user's S", BACKEND, RESET,
             kept_by_reset("delta_state")),
    Mutation("reset_keeps_conv_state", "§7.6 a reused slot starts with its last user's convolution", BACKEND, RESET,
             kept_by_reset("conv_state")),
    Mutation(
        "reset_keeps_cached_keys", "§7.6 a reused slot sees its last user's keys and values", BACKEND, RESET,
        "slots_[slot].length = 0; for (auto& layer : slots_[slot].layers) {"
        " layer.delta_state.assign(layer.delta_state.size(), 0.0F);"
        " layer.conv_state.assign(layer.conv_state.size(), 0.0F); }"),
    Mutation("reset_does_nothing", "§7.6 reset leaves the slot as it is", BACKEND, RESET, ""),
    Mutation("spans_share_a_slot", "every span runs on the first span's slot", BACKEND, "slots_[span.slot], step",
             "slots_[step.spans.front().slot], step"),
    Mutation("output_of_the_row_before", "logits of the row before the one asked for", BACKEND,
             "output->row != row) continue;",
             "output->row != row + (row + 1 < span.first_row + span.n_rows)) continue;"),
]

DELTA_RULE = [
    Mutation("l2_mean", "§7.5 L2 norm over the mean of squares", OPS, "std::sqrt(dot(values, values) +",
             "std::sqrt(dot(values, values) / static_cast<T>(x.size()) +"),
    Mutation("l2_as_ggml", "§7.5 x / max(|x|, eps), ggml's form", OPS,
             "1 / std::sqrt(dot(values, values) + static_cast<T>(1e-6))",
             "1 / std::max(std::sqrt(dot(values, values)), static_cast<T>(1e-6))"),
    Mutation("l2_eps_outside", "§7.5 eps added to the norm, not under the root", OPS,
             "std::sqrt(dot(values, values) + static_cast<T>(1e-6))",
             "(std::sqrt(dot(values, values)) + static_cast<T>(1e-6))"),
    Mutation("l2_other_eps", "§7.5 another epsilon", OPS, "static_cast<T>(1e-6)", "static_cast<T>(1e-7)"),
    Mutation("l2_of_key_missing", "§7.5 keys not normalised", STEP,
             "l2_normalize(k.subspan(head * key_size, key_size));", ""),
    Mutation("l2_over_all_heads", "§7.5 one norm over all heads", STEP,
             "l2_normalize(q.subspan(head * key_size, key_size));", "if (head == 0) l2_normalize(q);"),
    Mutation("readout_scale_missing", "§7.5 no 1/sqrt(d) on the query", STEP, "for (T& value : q) value *= scale;", ""),
    Mutation("readout_scale_twice", "§7.5 1/sqrt(d) applied twice", STEP, "value *= scale;", "value *= scale * scale;"),
    Mutation("readout_scale_on_keys_too", "§7.5 keys scaled as well", STEP, "for (T& value : q) value *= scale;",
             "for (T& value : q) value *= scale; for (T& value : k) value *= scale;"),
    Mutation("readout_scale_of_values", "§7.5 scaled by the value head's size", STEP, "static_cast<T>(key_size));",
             "static_cast<T>(value_size));"),
    Mutation("decay_after_update",
             "decay applied after the update",
             OPS,
             "for (T& s : row) s *= decay;",
             "",
             also=((UPDATE, "row[j] = (row[j] + key[j] * delta) * decay;"), )),
    Mutation("delta_before_decay",
             "prediction from the state before its decay",
             OPS,
             "for (T& s : row) s *= decay;",
             "",
             also=((UPDATE, "row[j] = row[j] * decay + key[j] * delta;"), )),
    Mutation("output_of_old_state",
             "output read before the update",
             OPS,
             "out[i] = dot(query,",
             ";",
             also=(("std::span<const T>(row));\n  }\n  return out;", "\n  }\n  return out;"),
                   ("const T delta =", "out[i] = dot(query, std::span<const T>(row));\n    const T delta ="))),
    Mutation("delta_adds_only", "values added, not corrected", OPS, "(value[i] - dot(key, std::span<const T>(row)))",
             "(value[i])"),
    Mutation("beta_on_value_only", "beta not applied to the prediction", OPS,
             "beta * (value[i] - dot(key, std::span<const T>(row)))",
             "(beta * value[i] - dot(key, std::span<const T>(row)))"),
    Mutation("beta_without_sigmoid", "beta is the projection itself", STEP, "sigmoid(b[head])", "b[head]"),
    Mutation("beta_doubled", "beta in (0, 2), as models with negative eigenvalues have it", STEP, "sigmoid(b[head])",
             "2 * sigmoid(b[head])"),
    Mutation("decay_without_exp", "the log decay taken for the decay", OPS, "const T decay = std::exp(g);",
             "const T decay = 1 + g;"),
    Mutation("softplus_is_relu", "relu for softplus", OPS, "+ std::log1p(std::exp(-std::abs(x)))", ""),
    Mutation("softplus_overflows", "log(1 + e^x) as it stands", OPS,
             "std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)))", "std::log(1 + std::exp(x))"),
    Mutation("dt_bias_outside", "dt_bias added outside of softplus", STEP,
             "softplus(a[head] + static_cast<T>(weights.dt_bias[head]))",
             "(softplus(a[head]) + static_cast<T>(weights.dt_bias[head]))"),
    Mutation("v_heads_share_a_state", "V heads of one K head share a state", STEP,
             "subspan(head * state_size, state_size)", "subspan(weights.key_head[head] * state_size, state_size)"),
    Mutation("gate_before_norm",
             "gated first, then normed",
             OPS,
             "std::vector<T> y = rms_norm(x, weight, eps);",
             "std::vector<T> y(x.begin(), x.end());",
             also=(("y[i] *= silu(gate[i]);\n  return y;",
                    "y[i] *= silu(gate[i]);\n  return rms_norm(std::span<const T>(y), weight, eps);"), )),
    Mutation("gated_norm_sigmoid", "sigmoid(z) for silu(z), as Kimi-Linear has it", OPS, "y[i] *= silu(gate[i]);",
             "y[i] *= sigmoid(gate[i]);"),
    Mutation("gated_norm_of_all_heads_z", "every head gated by the first head's z", STEP,
             "head_of(z, head, value_size)", "head_of(z, 0, value_size)"),
    Mutation("gated_norm_with_l2_eps", "the gated norm's epsilon taken for a constant", STEP,
             "weights.norm, static_cast<T>(config.rms_norm_eps)", "weights.norm, static_cast<T>(1e-6)"),
    Mutation("conv_taps_reversed",
             "the first tap meets the current token",
             OPS,
             "static_cast<T>(taps[j]) * state[j]",
             "static_cast<T>(taps[taps.size() - 1 - j]) * state[j]",
             also=(("static_cast<T>(taps.back())", "static_cast<T>(taps.front())"), )),
    Mutation("conv_without_silu", "no activation behind the convolution", STEP, "silu(conv_step(", "(conv_step("),
    Mutation("conv_not_on_values", "values not convolved", STEP, "mixed[c] = silu(conv_step(",
             "mixed[c] = c >= 2 * config.key_dim() ? qkv[c] : silu(conv_step("),
    Mutation("conv_state_after_silu", "the state keeps outputs", OPS, "state.back() = input;", "state.back() = sum;"),
    Mutation("query_and_key_exchanged",
             "rows K | Q | V",
             STEP,
             "std::span<T>(qkv).first(config.key_dim())",
             "std::span<T>(qkv).subspan(config.key_dim(), config.key_dim())",
             also=(("k = std::span<T>(qkv).subspan(config.key_dim(), config.key_dim())",
                    "k = std::span<T>(qkv).first(config.key_dim())"), )),
]

ATTENTION = [
    Mutation("query_gate_flat",
             "§7.4 all queries, then all gates",
             STEP,
             "head_of(q_gate, 2 * head, size)",
             "head_of(q_gate, head, size)",
             also=(("head_of(q_gate, 2 * head + 1, size)", "head_of(q_gate, config.n_heads + head, size)"), )),
    Mutation("query_gate_exchanged",
             "§7.4 gate first, then query",
             STEP,
             "head_of(q_gate, 2 * head, size)",
             "head_of(q_gate, 2 * head + 1, size)",
             also=(("gate = head_of(q_gate, 2 * head + 1, size)", "gate = head_of(q_gate, 2 * head, size)"), )),
    Mutation("gqa_tiled", "§7.4 query head h uses KV head h mod KVH", STEP,
             "head / (config.n_heads / config.n_kv_heads)", "head % config.n_kv_heads"),
    Mutation("gate_missing", "no output gate", STEP, "o[i] * sigmoid(gate[i])", "o[i]"),
    Mutation("gate_silu", "silu for sigmoid", STEP, "o[i] * sigmoid(gate[i])", "o[i] * silu(gate[i])"),
    Mutation("rope_sign", "turned the other way", OPS, "std::sin(static_cast<T>(angle))",
             "-std::sin(static_cast<T>(angle))"),
    Mutation("rope_pairs_are_neighbours",
             "pairs (2j, 2j + 1)",
             OPS, "const T first = head[j];\n    const T second = "
             "head[j + half];",
             "const T first = head[2 * j];\n    const T second = head[2 * j + 1];",
             also=(("head[j] = first", "head[2 * j] = first"), ("head[j + half] = second * cosine",
                                                                "head[2 * j + 1] = second * cosine"))),
    Mutation("rope_whole_head",
             "every dimension turned",
             STEP,
             "rotary_embedding<T>(key, config.rotary_dim,",
             "rotary_embedding<T>(key, config.head_dim / 2 * 2,",
             also=(("rotary_embedding<T>(query, config.rotary_dim,",
                    "rotary_embedding<T>(query, config.head_dim / 2 * 2,"), )),
    Mutation("rope_pairs_over_the_head",
             "pairs (j, j + head_dim / 2)",
             OPS,
             "head[j + half];",
             "head[j + head.size() / 2];",
             also=(("head[j + half] =", "head[j + head.size() / 2] ="), )),
    Mutation("rope_frequencies_of_the_head", "frequencies by head_dim, not by rotary_dim", OPS,
             "static_cast<float>(rotary_dim);", "static_cast<float>(head.size());"),
    Mutation("rope_theta_default",
             "theta 10000 whatever the config says",
             STEP,
             "rotary_embedding<T>(key, config.rotary_dim, config.rope_theta,",
             "rotary_embedding<T>(key, config.rotary_dim, 10000.0,",
             also=(("rotary_embedding<T>(query, config.rotary_dim, config.rope_theta,",
                    "rotary_embedding<T>(query, config.rotary_dim, 10000.0,"), )),
    Mutation(
        "rope_angle_in_fp64", "angles in fp64: not what the model was trained with", OPS,
        "const float angle = static_cast<float>(position) * inv_freq;",
        "const double angle = static_cast<double>(position) * std::pow(theta, -static_cast<double>(2 * j) /"
        " static_cast<double>(rotary_dim));"),
    Mutation(
        "rope_angle_in_bf16", "positions rounded to bf16", OPS, "static_cast<float>(position) * inv_freq;",
        "__builtin_bit_cast(float, __builtin_bit_cast(unsigned, static_cast<float>(position)) & 0xFFFF0000U) *"
        " inv_freq;"),
    Mutation("rope_query_one_late", "query and key positions differ by one", STEP,
             "rotary_embedding<T>(query, config.rotary_dim, config.rope_theta, position)",
             "rotary_embedding<T>(query, config.rotary_dim, config.rope_theta, position + 1)"),
    Mutation("rope_missing_on_keys", "keys not turned", STEP,
             "rotary_embedding<T>(key, config.rotary_dim, config.rope_theta, position);", ""),
    Mutation(
        "rope_before_norm", "turned first, then normed", STEP,
        "std::vector<T> key = rms_norm<T>(head_of(k, head, size), weights.k_norm, eps);\n    "
        "rotary_embedding<T>(key, config.rotary_dim, config.rope_theta, position);",
        "const auto raw = head_of(k, head, size);\n    std::vector<T> key(raw.begin(), raw.end());\n    "
        "rotary_embedding<T>(key, config.rotary_dim, config.rope_theta, position);\n    "
        "key = rms_norm<T>(key, weights.k_norm, eps);"),
    Mutation("attention_scale_missing", "scores not scaled", OPS,
             "const T scale = 1 / std::sqrt(static_cast<T>(head_dim));", "const T scale = 1;"),
    Mutation("attention_scale_of_rotary", "scaled by half the head", OPS, "std::sqrt(static_cast<T>(head_dim))",
             "std::sqrt(static_cast<T>(head_dim) / 2)"),
    Mutation("attention_without_this_token",
             "causal mask off by one",
             OPS,
             "const std::size_t length = keys.size() / stride;",
             "const std::size_t whole = keys.size() / stride, length = whole > 1 ? whole - 1 : whole;",
             also=(("SLUICE_CHECK(length > 0 && keys.size() == length * stride && values.size() == keys.size());",
                    ""), )),
    Mutation("attention_without_the_first_token", "the oldest position falls out of the cache", OPS,
             "const T largest =", "if (length > 1) weight[0] = -1e30;\n  const T largest ="),
    Mutation("softmax_without_maximum", "exp overflows", OPS, "std::exp(w - largest)", "std::exp(w)"),
    Mutation("softmax_not_divided", "weights don't add up to one", OPS, "weight[t] / sum * value[i]",
             "weight[t] * value[i]"),
    Mutation("key_norm_with_query_weight", "q_norm used for keys", STEP, "size), weights.k_norm, eps)",
             "size), weights.q_norm, eps)"),
    Mutation("query_norm_with_key_weight", "k_norm used for queries", STEP, "size), weights.q_norm, eps)",
             "size), weights.k_norm, eps)"),
    Mutation("values_of_the_first_kv_head", "values all from the first KV head", OPS,
             "values.subspan(t * stride + kv_head * head_dim, head_dim)", "values.subspan(t * stride, head_dim)"),
]

LAYER = [
    Mutation("norm_eps_outside", "eps added to the root, not under it", OPS, "std::sqrt(mean_square + eps)",
             "(std::sqrt(mean_square) + eps)"),
    Mutation("norm_eps_missing", "no epsilon", OPS, "std::sqrt(mean_square + eps)", "std::sqrt(mean_square)"),
    Mutation("norm_sum_for_mean", "sum of squares for their mean", OPS, "dot(x, x) / static_cast<T>(x.size())",
             "dot(x, x)"),
    Mutation("norm_mean_over_one_less", "mean over n - 1", OPS, "dot(x, x) / static_cast<T>(x.size())",
             "dot(x, x) / static_cast<T>(x.size() > 1 ? x.size() - 1 : 1)"),
    Mutation("norm_subtracts_mean",
             "layer norm for rms norm",
             OPS,
             "y[i] = x[i] * scale",
             "y[i] = (x[i] - std::accumulate(x.begin(), x.end(), T{0}) / static_cast<T>(x.size())) * scale",
             also=(("#include <cmath>", "#include <cmath>\n#include <numeric>"), )),
    Mutation("weight_one_plus_again", "§7.2 1 + w on weights that are multipliers already", OPS,
             "scale * static_cast<T>(weight[i])", "scale * (1 + static_cast<T>(weight[i]))"),
    Mutation("final_norm_missing", "§7.2 no final norm", STEP, "return rms_norm<T>(x, model.weights.norm, eps);",
             "return x;"),
    Mutation("final_norm_plain", "§7.2 +1 missing on the final norm alone", STEP,
             "return rms_norm<T>(x, model.weights.norm, eps);",
             "auto w = model.weights.norm; for (float& v : w) v -= 1; return rms_norm<T>(x, w, eps);"),
    Mutation("residual_missing", "the mixer replaces its input", STEP, "    add(x,\n        std::visit(",
             "    x = (\n        std::visit("),
    Mutation("mlp_residual_missing", "the MLP replaces its input", STEP,
             "add(x, mlp<T>(layer.mlp, rms_norm<T>(x, layer.mlp_norm, eps)));",
             "x = mlp<T>(layer.mlp, rms_norm<T>(x, layer.mlp_norm, eps));"),
    Mutation("residual_of_the_norm", "the residual taken after the norm", STEP, "    add(x,\n        std::visit(",
             "    x = h;\n    add(x,\n        std::visit("),
    Mutation("parallel_blocks", "the MLP fed with what the mixer was fed with", STEP,
             "rms_norm<T>(x, layer.mlp_norm, eps)", "h"),
    Mutation("norms_exchanged", "the MLP's norm weights used for the mixer", STEP,
             "rms_norm<T>(x, layer.mix_norm, eps)", "rms_norm<T>(x, layer.mlp_norm, eps)"),
    Mutation("mlp_gate_up_exchanged", "silu(up) * gate", STEP, "silu(gated[i]) * up[i]", "gated[i] * silu(up[i])"),
    Mutation("mlp_gelu", "gelu for silu", STEP, "silu(gated[i]) * up[i]",
             "gated[i] * sigmoid(static_cast<T>(1.702) * gated[i]) * up[i]"),
    Mutation("embedding_row_off", "the next token's row", STEP, "static_cast<std::size_t>(token));\n",
             "(static_cast<std::size_t>(token) + 1) % config.vocab_size);\n"),
    Mutation(
        "embedding_scaled", "times sqrt(hidden), as Gemma does", STEP, "std::vector<T>(values.begin(), values.end());",
        "[&] { std::vector<T> v(values.begin(), values.end()); for (T& e : v) e *= std::sqrt(static_cast<T>("
        "v.size())); return v; }();"),
    Mutation("head_always_tied", "logits from the embedding, tied or not", STEP, "multiply(model.weights.head, hidden)",
             "multiply(model.weights.embedding, hidden)"),
    Mutation("position_stands_still", "every token at position 0", STEP, "++state.length;", ""),
    Mutation("last_layer_skipped", "one layer too few", STEP, "for (std::size_t i = 0; i < config.n_layers(); ++i) {\n"
             "    const model::LayerWeights& layer", "for (std::size_t i = 0; i + 1 < config.n_layers(); ++i) {\n"
             "    const model::LayerWeights& layer"),
    Mutation("product_skips_the_last_column", "a matrix product one column short", OPS,
             "for (std::size_t i = 0; i < a.size(); ++i) sum +=",
             "for (std::size_t i = 0; i + 1 < a.size(); ++i) sum +="),
]

MUTATIONS = [*STATE, *DELTA_RULE, *ATTENTION, *LAYER]
