// Unicode normalization form C (Unicode Standard Annex 15), as Hugging Face `tokenizers` computes it.
#pragma once

#include <string>
#include <string_view>

namespace sluice::model {

// Whether nfc(text) may differ from `text`; false is certain. Linear, and fast where it is false.
bool nfc_may_change(std::string_view text);

// `text`, which must be valid UTF-8, in NFC. O(n log n) at worst (a long run of combining marks), else
// linear.
std::string nfc(std::string_view text);

}  // namespace sluice::model
