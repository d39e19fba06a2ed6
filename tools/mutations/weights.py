"""Mistakes in reading configs and safetensors, and in making canonical weights of them."""

from mutations import Mutation, exchange

HF = "model/hf_weights.cpp"
MATRIX = "model/weights.cpp"
READER = "model/tensor_reader.cpp"
CONFIG = "model/config.cpp"
SHARDS = "model/checkpoint_files.cpp"
SAFETENSORS = "model/safetensors.cpp"
TENSOR = "model/tensor.cpp"
BF16 = "base/bf16.h"
CONVERTERS = ("model/tensor.cpp", "model/ggml_blocks.cpp")

NORMS = [
    Mutation("norms_plain", "§7.2 +1 missing on every norm", HF, "value = 1.0F + value;", "value = 0.0F + value;"),
    Mutation("norms_plus_two", "§7.2 +1 added twice", HF, "value = 1.0F + value;", "value = 2.0F + value;"),
    Mutation("read_final_norm_plain", "§7.2 +1 missing on the final norm alone", HF,
             'weights.norm = norm(prefix + "norm.weight", hidden);',
             'weights.norm = reader_.vector(prefix + "norm.weight", {hidden});'),
    Mutation("read_query_norm_plain", "§7.2 +1 missing on q_norm", HF,
             'norm(prefix + "q_norm.weight", config_.head_dim)',
             'reader_.vector(prefix + "q_norm.weight", {config_.head_dim})'),
    Mutation("read_mtp_norm_plain", "§7.2 +1 missing on MTP's norm", HF, 'norm("mtp.norm.weight", hidden)',
             'reader_.vector("mtp.norm.weight", {hidden})'),
    Mutation("gated_norm_one_plus", "§7.2 +1 on the one norm without it", HF,
             'net.norm = reader_.vector(prefix + "norm.weight", {head_dim});',
             'net.norm = norm(prefix + "norm.weight", head_dim);'),
    exchange("layer_norms_exchanged", "input and post-attention norm exchanged", HF, "input_layernorm.weight",
             "post_attention_layernorm.weight"),
]

DECAY_AND_HEADS = [
    Mutation("decay_raw", "§7.3 A_log taken as it is", HF, "static_cast<float>(-std::exp(static_cast<double>(value)))",
             "value"),
    Mutation("decay_grows", "§7.3 exp(A_log) without its sign", HF, "-std::exp(", "std::exp("),
    Mutation("decay_negated_only", "§7.3 -A_log", HF, "-std::exp(static_cast<double>(value))", "-value"),
    Mutation("v_heads_left_grouped", "§7.4 stored order kept where the tiled one is meant", HF,
             "if (ratio == 1) return order;", "return order;"),
    Mutation("v_heads_permuted_backwards", "§7.4 the inverse of the reordering", HF,
             "hv % config.n_key_heads * ratio + hv / config.n_key_heads",
             "hv % ratio * config.n_key_heads + hv / ratio"),
    Mutation("key_heads_grouped", "§7.4 V head hv uses K head hv / R on tiled weights", HF,
             "key_head.push_back(hv % config_.n_key_heads)", "key_head.push_back(hv / (heads / config_.n_key_heads))"),
    Mutation("decay_not_reordered", "§7.4 decay left in stored order", HF,
             "return reordered(values, v_head_order(config_, 0, 1), 1);", "return values;"),
    Mutation("z_not_reordered", "§7.4 z left in stored order", HF,
             'with_rows(matrix(prefix + "in_proj_z.weight", config_.value_dim(), hidden), 0, head_dim)',
             'matrix(prefix + "in_proj_z.weight", config_.value_dim(), hidden)'),
    Mutation("out_columns_not_reordered", "§7.4 the out-projection's columns left in stored order", HF,
             "net.out.col_order = v_head_order(config_, 0, head_dim);", ""),
    Mutation("conv_reordered_from_keys_on", "§7.4 the reordering begins at K", HF,
             "const std::size_t v_begin = 2 * config_.key_dim();", "const std::size_t v_begin = config_.key_dim();"),
    Mutation("columns_read_in_place", "§7.4 column order ignored in reading", MATRIX, "first + from",
             "first + begin + head * head_size"),
    Mutation("rows_read_in_place", "§7.4 row order ignored in reading", MATRIX, "row_order.stored_index(row) * cols",
             "row * cols"),
    exchange("a_and_b_exchanged", "in_proj_a and in_proj_b exchanged", HF, "in_proj_b.weight", "in_proj_a.weight"),
    exchange("gate_and_up_exchanged", "gate_proj and up_proj exchanged", HF, "mlp.gate_proj.weight",
             "mlp.up_proj.weight"),
    exchange("mtp_norms_exchanged", "MTP's two input norms exchanged", HF, "pre_fc_norm_embedding.weight",
             "pre_fc_norm_hidden.weight"),
    Mutation("tied_config_wins_over_the_file", "an own head in the file ignored when the config says tied", HF,
             "(!files_.contains(name) || holds(name, embedding))", "true"),
    Mutation("untied_head_ignored",
             "the embedding taken for the head",
             HF,
             "if (config_.tie_word_embeddings && (!",
             "if ((!",
             also=(("|| holds(name, embedding))) return embedding;", "|| true)) return embedding;"), )),
    Mutation("nan_weights_accepted", "NaN in small vectors not noticed", READER, "if (!std::isfinite(values[i]))",
             "if (false)"),
    Mutation("transposed_shapes_accepted", "dimensions counted, not compared", READER, "if (!fits(view.shape, shape))",
             "if (view.shape.size() != shape.size())"),
]

STORED = [
    Mutation("bf16_reads_every_second", "16-bit elements a byte apart", TENSOR, "from + i * sizeof bits", "from + i"),
    Mutation("f16_taken_for_bf16", "fp16 read as bf16", TENSOR, "convert_16(from.data(), out, f16_to_float)",
             "convert_16(from.data(), out, bf16_to_float)"),
    Mutation("f16_bias",
             "fp16 exponents off by one",
             BF16,
             "exponent + 112",
             "exponent + 113",
             compile=CONVERTERS,
             tests=("test_model", "test_oracle")),
    Mutation("f16_subnormals_flushed",
             "fp16 subnormals read as zero",
             BF16,
             "static_cast<float>(mantissa) * 0x1p-24F",
             "0.0F",
             compile=CONVERTERS,
             tests=("test_model", "test_oracle")),
    Mutation("f16_infinity_finite",
             "fp16 infinity and NaN read as numbers",
             BF16,
             "if (exponent == 31)",
             "if (exponent == 32)",
             compile=CONVERTERS,
             tests=("test_model", "test_oracle")),
    Mutation("overlapping_tensors_accepted", "tensors that share bytes", SAFETENSORS, "range.begin != covered",
             "range.begin > covered"),
    Mutation("holes_accepted", "bytes between tensors that are none's", SAFETENSORS, "range.begin != covered",
             "range.begin < covered"),
    Mutation("trailing_bytes_accepted", "bytes behind the last tensor", SAFETENSORS, "if (covered != data_size)",
             "if (false)"),
    Mutation("shard_of_another_tensor", "the index's file name not checked against where the tensor is", SHARDS,
             "found == file_of_.end() || found->second != file_number.at(shard)", "found == file_of_.end()"),
    Mutation("all_tensors_from_the_last_shard", "every tensor looked for in one shard", SHARDS,
             "return files_[found->second].tensor(name);", "return files_.back().tensor(name);"),
    Mutation("tensor_in_two_shards_accepted", "a tensor twice", SHARDS, 'if (!is_new)\n      throw Error("tensor ',
             'if (false)\n      throw Error("tensor '),
    Mutation("shard_outside_the_folder", "a shard's name leads out of the folder", SHARDS, "if (!is_plain_name(shard))",
             "if (false)"),
]

CONFIGS = [
    Mutation("interval_counts_from_zero", "layer i attends if i, not i + 1, is a multiple", CONFIG,
             "(i + 1) % interval == 0", "i % interval == 0"),
    Mutation("rotary_default_whole", "without partial_rotary_factor the whole head turns", CONFIG,
             "kDefaultRotaryFactor = 0.25", "kDefaultRotaryFactor = 1.0"),
    Mutation("theta_default_of_qwen", "without rope_theta 1e7", CONFIG, "kDefaultTheta = 10000.0",
             "kDefaultTheta = 1e7"),
    Mutation("vocabulary_one_longer", "an end token equal to the vocabulary's size", "model/config_checks.cpp",
             "within(field, id, 0, config.vocab_size - 1)", "within(field, id, 0, config.vocab_size)"),
    Mutation("end_tokens_of_the_text_only", "end tokens beside text_config not read", CONFIG,
             "if (nested) add_eos(top, config);", ""),
    Mutation("nested_refusals_skipped", "what text_config asks for and isn't there goes unnoticed", CONFIG,
             "if (nested) refuse_unknown(text);", ""),
    Mutation("odd_rotary_dim_accepted", "an odd number of turned dimensions", CONFIG, "config.rotary_dim % 2 != 0",
             "false"),
    Mutation("tied_by_the_inner_config", "the inner tie_word_embeddings wins", CONFIG,
             'tied ? *tied : text.flag("tie_word_embeddings").value_or(false)',
             'text.flag("tie_word_embeddings").value_or(tied.value_or(false))'),
]

MUTATIONS = [*NORMS, *DECAY_AND_HEADS, *STORED, *CONFIGS]
