// What llama.cpp makes of a GGUF file, through its public interface (include/llama.h).
//
//   llama_peer logits MODEL.gguf OUT LENGTH... < TOKENS     logits of every position, prompt by prompt, raw fp32
//   llama_peer quantize IN.gguf OUT.gguf FTYPE TYPE         every matrix quantized to ggml type number TYPE
//
// Prompts follow one another on stdin, LENGTH ids each; a LENGTH with a minus in front is fed token by token. KV cache
// in fp32, flash attention off, one thread.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "llama.h"

namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "llama_peer: %s\n", what.c_str());
  std::exit(1);
}

void decode(llama_context* context, const std::vector<llama_token>& tokens, std::size_t first,
            std::size_t count, std::size_t vocabulary, std::FILE* out) {
  llama_batch batch = llama_batch_init(static_cast<int>(count), 0, 1);
  batch.n_tokens = static_cast<int>(count);
  for (std::size_t i = 0; i < count; ++i) {
    batch.token[i] = tokens[first + i];
    batch.pos[i] = static_cast<llama_pos>(first + i);
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  if (llama_decode(context, batch) != 0) fail("llama_decode failed");
  for (std::size_t i = 0; i < count; ++i) {
    const float* row = llama_get_logits_ith(context, static_cast<int>(i));
    if (std::fwrite(row, sizeof(float), vocabulary, out) != vocabulary) fail("can't write the logits");
  }
  llama_batch_free(batch);
}

int logits(const char* path, const char* out_path, const std::vector<int>& lengths) {
  llama_model_params model_params = llama_model_default_params();
  model_params.n_gpu_layers = 0;
  llama_model* model = llama_model_load_from_file(path, model_params);
  if (model == nullptr) fail(std::string("can't load ") + path);
  const auto vocabulary = static_cast<std::size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));

  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = 512;
  params.n_threads = params.n_threads_batch = 1;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.type_k = params.type_v = GGML_TYPE_F32;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) fail("can't make a context");

  std::FILE* out = std::fopen(out_path, "wb");
  if (out == nullptr) fail(std::string("can't write ") + out_path);
  for (const int length : lengths) {
    std::vector<llama_token> tokens(static_cast<std::size_t>(std::abs(length)));
    for (llama_token& token : tokens) {
      if (std::scanf("%d", &token) != 1) fail("too few tokens");
    }
    llama_memory_clear(llama_get_memory(context), true);
    const std::size_t piece = length < 0 ? 1 : tokens.size();
    for (std::size_t first = 0; first < tokens.size(); first += piece) {
      decode(context, tokens, first, piece, vocabulary, out);
    }
  }
  if (std::fclose(out) != 0) fail("can't write the logits");
  llama_free(context);
  llama_model_free(model);
  return 0;
}

int quantize(const char* in, const char* out, int file_type, int type) {
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.nthread = 1;
  params.ftype = static_cast<llama_ftype>(file_type);
  params.output_tensor_type = params.token_embedding_type = static_cast<ggml_type>(type);
  params.pure = true;
  if (llama_model_quantize(in, out, &params) != 0) fail("llama_model_quantize failed");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv, argv + argc);
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  if (args.size() > 4 && args[1] == "logits") {
    std::vector<int> lengths;
    for (std::size_t i = 4; i < args.size(); ++i) lengths.push_back(std::stoi(args[i]));
    return logits(argv[2], argv[3], lengths);
  }
  if (args.size() == 6 && args[1] == "quantize")
    return quantize(argv[2], argv[3], std::stoi(args[4]), std::stoi(args[5]));
  fail("usage: llama_peer logits MODEL OUT LENGTH... | llama_peer quantize IN OUT FTYPE TYPE");
}
