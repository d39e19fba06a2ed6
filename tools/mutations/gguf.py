"""Mistakes in reading GGUF files and their quantized blocks."""

from mutations import Mutation, exchange

WEIGHTS = "model/gguf_weights.cpp"
CONFIG = "model/gguf_config.cpp"
BLOCKS = "model/ggml_blocks.cpp"
TENSOR = "model/tensor.cpp"
FILE = "model/gguf.cpp"
TABLE = "model/gguf_tensors.cpp"
METADATA = "model/gguf_metadata.cpp"
TOKENIZER = "model/gguf_tokenizer.cpp"


def plus_one(name: str) -> str:
    return f"[&] {{ auto v = {name}; for (float& x : v) x += 1.0F; return v; }}()"


FINAL_NORM = 'reader_.vector("output_norm.weight", {hidden})'
LAYER_NORM = 'reader_.vector(at + "attn_norm.weight", {hidden})'
GATED_NORM = 'reader_.vector(at + "ssm_norm.weight", {config_.value_head_dim})'

CANONICAL = [
    Mutation("gguf_final_norm_plus_one", "§7.2 1 + w on GGUF's final norm, which has it already", WEIGHTS, FINAL_NORM,
             plus_one(FINAL_NORM)),
    Mutation("gguf_layer_norm_plus_one", "§7.2 1 + w on GGUF's layer norms", WEIGHTS, LAYER_NORM, plus_one(LAYER_NORM)),
    Mutation("gguf_gated_norm_plus_one", "§7.2 1 + w on the norm that never has it", WEIGHTS, GATED_NORM,
             plus_one(GATED_NORM)),
    Mutation("gguf_decay_exp_again", "§7.3 -exp of what is -exp(A_log) already", WEIGHTS, "    const auto growth =",
             "    for (float& value : values) value = -__builtin_expf(value);\n"
             "    const auto growth ="),
    Mutation("gguf_growth_accepted", "§7.3 A_log in place of -exp(A_log) goes unnoticed", WEIGHTS,
             "if (growth != values.end())", "if (false)"),
    Mutation("gguf_key_heads_grouped", "§7.4 V head hv uses K head hv / R on tiled weights", WEIGHTS,
             "key_head.push_back(hv % config_.n_key_heads)", "key_head.push_back(hv / (heads / config_.n_key_heads))"),
    Mutation(
        "gguf_v_heads_reordered_again", "§7.4 rows that are tiled already taken for grouped ones", WEIGHTS,
        'net.z = reader_.matrix(at + "attn_gate.weight", config_.value_dim(), hidden);',
        'net.z = reader_.matrix(at + "attn_gate.weight", config_.value_dim(), hidden);\n'
        "    net.z.row_order = {.begin = 0, .head_size = config_.value_head_dim, .stored = {}};\n"
        "    for (std::size_t hv = 0; hv < heads; ++hv) net.z.row_order.stored.push_back(\n"
        "        hv % config_.n_key_heads * (heads / config_.n_key_heads) + hv / config_.n_key_heads);"),
    exchange("gguf_alpha_beta_exchanged", "ssm_alpha and ssm_beta exchanged", WEIGHTS, "ssm_beta.weight",
             "ssm_alpha.weight"),
    exchange("gguf_gate_up_exchanged", "ffn_gate and ffn_up exchanged", WEIGHTS, "ffn_gate.weight", "ffn_up.weight"),
    exchange("gguf_query_key_norm_exchanged", "attn_q_norm and attn_k_norm exchanged", WEIGHTS, "attn_q_norm.weight",
             "attn_k_norm.weight"),
    exchange("gguf_mtp_norms_exchanged", "enorm and hnorm exchanged", WEIGHTS, "nextn.enorm.weight",
             "nextn.hnorm.weight"),
    Mutation("gguf_head_always_tied", "output.weight ignored", WEIGHTS,
             "config_.tie_word_embeddings ? weights.embedding", "true ? weights.embedding"),
]

SHAPE = [
    Mutation("gguf_mtp_counted_as_layers", "block_count taken for the number of layers, MTP's among them", CONFIG,
             "n_blocks - config.n_mtp_layers, 1", "n_blocks, 1"),
    Mutation("gguf_interval_counts_from_zero", "layer i attends if i, not i + 1, is a multiple", CONFIG,
             "std::size_t i = interval - 1;", "std::size_t i = 0;"),
    Mutation("gguf_recurrent_flags_inverted", "recurrent_layers read as attention layers", CONFIG,
             "if ((*recurrent)[i] == 0) config", "if ((*recurrent)[i] != 0) config"),
    Mutation("gguf_epsilon_as_fp32", "1e-6 becomes the fp32 next to it", CONFIG,
             "checks_.within(full(name), as_meant(*value), low, high)",
             "checks_.within(full(name), *value, low, high)"),
    Mutation("gguf_value_head_of_key_size", "value heads taken to be as large as key heads", CONFIG,
             "config.value_head_dim = value_dim / config.n_value_heads;",
             "config.value_head_dim = config.key_head_dim;"),
    Mutation("gguf_key_value_heads_exchanged",
             "group_count and time_step_rank exchanged",
             CONFIG,
             'config.n_key_heads = keys.size("ssm.group_count");',
             'config.n_key_heads = keys.size("ssm.time_step_rank");',
             also=(('config.n_value_heads = keys.size("ssm.time_step_rank");',
                    'config.n_value_heads = keys.size("ssm.group_count");'), )),
    Mutation("gguf_end_of_turn_missed", "eot_token_id not among the end tokens", CONFIG,
             '"tokenizer.ggml.eot_token_id", ', ""),
    Mutation("gguf_dimensions_not_reversed", "GGUF's [in, out] taken for [out, in]", FILE,
             "std::reverse(shape.begin(), shape.end());", ""),
    Mutation("gguf_alignment_fixed", "general.alignment ignored for the data's begin", FILE,
             "(cursor.position() + alignment - 1) / alignment * alignment", "(cursor.position() + 31) / 32 * 32"),
    Mutation("gguf_parts_all_from_the_first", "a part's data looked for in the part before", FILE,
             "if (!files_.empty()) later_.emplace(name, files_.size());", ""),
    Mutation("gguf_overlap_accepted", "tensors that share bytes", TABLE,
             "order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes",
             "order[i]->offset < order[i - 1]->offset"),
    Mutation("gguf_tensor_behind_the_end", "a tensor that leaves the file", TABLE,
             "tensor.bytes > data_size - tensor.offset", "tensor.bytes > data_size"),
    Mutation("gguf_count_believed", "a count of elements not checked against the file", METADATA,
             "if (count > cursor.left() / (type == GgufType::kString ? kLengthBytes : bytes))",
             "if (type == GgufType::kString && count > cursor.left())"),
    Mutation("gguf_i32_unsigned", "signed integers read as unsigned", METADATA, "use(load<std::int32_t>(at))",
             "use(load<std::uint32_t>(at))"),
    Mutation("gguf_control_tokens_shown", "control tokens not special", TOKENIZER, ".special = type == kControl",
             ".special = false"),
    Mutation("gguf_user_tokens_special", "<think> hidden like a control token", TOKENIZER,
             ".special = type == kControl", ".special = true"),
    Mutation("gguf_padding_is_tokens",
             "unused tokens read as text",
             TOKENIZER,
             "if (types[i] == kUnused) continue;",
             "if (types[i] == kUnused) types_seen_ = true;",
             also=(("  std::string where_;", "  std::string where_;\n  bool types_seen_ = false;"), )),
    Mutation("gguf_pattern_of_qwen2", "pre \"qwen35\" taken for Qwen2's expression", TOKENIZER,
             "return SplitPattern::kQwen35;", "return SplitPattern::kQwen2;"),
]

QUANTS = [
    Mutation("q8_0_unsigned", "bytes taken for unsigned", BLOCKS, "d * signed_at(block + 2 + e)",
             "d * static_cast<float>(block[2 + e])"),
    Mutation("q4_0_without_offset", "- 8 forgotten", BLOCKS, "d * (static_cast<float>(n) - 8)",
             "d * static_cast<float>(n)"),
    Mutation("q4_1_minimum_subtracted", "m subtracted where it is added", BLOCKS, "d * static_cast<float>(n) + m;",
             "d * static_cast<float>(n) - m;"),
    Mutation("nibbles_interleaved", "the high nibble is the next element", BLOCKS, "out[j] = value(run[j] & 15U, j);\n"
             "    out[j + bytes] = value(run[j] >> 4U, j + bytes);",
             "out[2 * j] = value(run[j] & 15U, 2 * j);\n    out[2 * j + 1] = value(run[j] >> 4U, 2 * j + 1);"),
    Mutation("nibbles_exchanged",
             "high nibbles first",
             BLOCKS,
             "value(run[j] & 15U, j)",
             "value(run[j] >> 4U, j)",
             also=(("value(run[j] >> 4U, j + bytes)", "value(run[j] & 15U, j + bytes)"), )),
    Mutation("q5_fifth_bit_of_the_byte", "the fifth bits counted by byte, not by element", BLOCKS,
             "((high >> e) & 1U) << 4U", "((high >> (e % 16)) & 1U) << 4U"),
    Mutation("q5_0_offset_of_q4", "- 8 for - 16", BLOCKS, "(with_fifth_bit(n, high, e) - 16)",
             "(with_fifth_bit(n, high, e) - 8)"),
    Mutation("q4_k_minimum_added", "the minimum's sign", BLOCKS, "quant((run[j] >> shift) & 15U, g, j)) - minimum;",
             "quant((run[j] >> shift) & 15U, g, j)) + minimum;"),
    Mutation("q4_k_d_and_dmin_exchanged",
             "d and dmin exchanged",
             BLOCKS,
             "const float scale = d * packed.scale;",
             "const float scale = dmin * packed.scale;",
             also=(("dmin * packed.minimum", "d * packed.minimum"), )),
    Mutation("q4_k_top_bits_exchanged",
             "the top bits of scale and minimum exchanged",
             BLOCKS,
             "((byte(g - 4) >> 6U) << 4U)",
             "((byte(g) >> 6U) << 4U)",
             also=(("(byte(g + 4) >> 4U) | ((byte(g) >> 6U) << 4U)",
                    "(byte(g + 4) >> 4U) | ((byte(g - 4) >> 6U) << 4U)"), )),
    Mutation("q4_k_top_bits_lost", "scales of the upper half have four bits", BLOCKS,
             "scale = (byte(g + 4) & 15U) | ((byte(g - 4) >> 6U) << 4U);", "scale = byte(g + 4) & 15U;"),
    Mutation("q5_k_bit_order", "the fifth bits from the top", BLOCKS, "high[j]) >> g) & 1U",
             "high[j]) >> (7 - g)) & 1U"),
    Mutation("q6_k_high_bits_order", "the two high bits of the group before the last", BLOCKS,
             "2 * static_cast<unsigned>(g % 4)", "6 - 2 * static_cast<unsigned>(g % 4)"),
    Mutation("q6_k_halves_share_low_bits", "low bits of the first half twice", BLOCKS,
             "block + 64 * (g / 4) + 32 * (g % 2)", "block + 32 * (g % 2)"),
    Mutation("q6_k_scales_unsigned", "scales taken for unsigned", BLOCKS, "d * signed_at(block + 193 + 2 * g)",
             "d * static_cast<float>(block[193 + 2 * g])"),
    Mutation("q6_k_one_scale_per_32", "one scale for 32 elements", BLOCKS, "scale[j / 16]", "scale[0]"),
    Mutation("iq4_xs_scale_bits_order", "the scales' high bits one group late", BLOCKS, "(scale_high >> (2 * g)) & 3U",
             "(scale_high >> (2 * (g ^ 1U))) & 3U"),
    Mutation("iq4_nl_table_linear", "one entry of the table off", BLOCKS, "-22, -10", "-22, -11"),
    Mutation("q6_k_layout", "a block of Q6_K a byte short", TENSOR, '{"Q6_K", 256, 210}', '{"Q6_K", 256, 209}'),
    Mutation("q4_1_type_number",
             "Q4_1 and Q4_0 exchanged in ggml's numbering",
             TABLE,
             "{2, DType::kQ4_0}",
             "{2, DType::kQ4_1}",
             also=(("{3, DType::kQ4_1}", "{3, DType::kQ4_0}"), )),
    Mutation("bf16_type_number", "BF16 read as F16", TABLE, "{30, DType::kBF16}", "{30, DType::kF16}"),
]

MUTATIONS = [*CANONICAL, *SHAPE, *QUANTS]
