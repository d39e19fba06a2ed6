// One function per kind of input from outside: it takes the input as far as the program would. What isn't right must end
// in sluice::Error and nothing else. libfuzzer.cpp looks for inputs that do otherwise; seeds_test.cpp runs the inputs that
// are in git, in every build.
#pragma once

#include <array>
#include <string_view>

namespace sluice::fuzz {

// True if the input was accepted as a whole, false if an Error refused it. Anything else that is thrown passes through.
bool safetensors(
    std::string_view input);  // a checkpoint's weights, beside the config in seeds/config_json/good_tiny
bool gguf(std::string_view input);            // container, tensors, config, weights, tokenizer
bool tokenizer_json(std::string_view input);  // and some text through the tokenizer
bool config_json(std::string_view input);     // beside the weights in seeds/safetensors/good_tiny
bool chat_messages(std::string_view input);   // and the rendered conversation
bool ptx(std::string_view input);             // and its kernels, for a while
bool fat_binary(std::string_view input);      // and the PTX in it

struct Target {
  std::string_view name;  // of its folder under seeds/
  bool (*run)(std::string_view input);
};

inline constexpr std::array kTargets = {
    Target{"safetensors", safetensors},       Target{"gguf", gguf},
    Target{"tokenizer_json", tokenizer_json}, Target{"config_json", config_json},
    Target{"chat_messages", chat_messages},   Target{"ptx", ptx},
    Target{"fat_binary", fat_binary}};

}  // namespace sluice::fuzz
