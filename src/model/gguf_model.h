// A Qwen3.5 model out of a GGUF file (docs/models.md §3): config, canonical weights, tokenizer. GGUF's conventions:
// norm weights as multipliers, decay as -exp(A_log), V heads tiled; so nothing is transformed here, only named.
#pragma once

#include <filesystem>

#include "model/config.h"
#include "model/gguf.h"
#include "model/tokenizer_definition.h"
#include "model/weights.h"

namespace sluice::model {

// True if `path` is a GGUF file, by its name, and not a model's folder.
bool is_gguf_file(const std::filesystem::path& path);

// The config that the metadata of a `qwen35` file gives. Throws Error naming file, key and expectation as read_config
// does for config.json; other architectures by name. The vocabulary's size is token_embd's, a head is tied if there is no
// output.weight. Two keys of Ollama's files are understood too: attention.head_count_kv as a list by layer (0 where there
// is no attention), and tokenizer.ggml.eos_token_ids.
ModelConfig read_gguf_config(const Gguf& file);

// As read_hf_weights; `file` must outlive what it returns. Matrices keep their type, quantized ones too; vectors and the
// convolution must be F32, F16 or BF16. Multi-token prediction (blk.L.nextn.*) is complete or absent.
Model read_gguf_weights(const Gguf& file, const ModelConfig& config, const LoadProgress& progress);

// The tokenizer inside (tokenizer.ggml.*: model "gpt2", pre "qwen35" or "qwen2"), and tokenizer.chat_template. Throws
// Error naming file, key and expectation. Text is normalized to NFC, as the model's own tokenizer does and llama.cpp
// doesn't. A file that asks for a token before or after every text (add_bos_token, add_eos_token) is refused: Qwen's
// models were trained without.
TokenizerDefinition read_gguf_tokenizer(const Gguf& file);

}  // namespace sluice::model
