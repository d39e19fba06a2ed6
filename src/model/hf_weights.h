// Canonical weights out of a checkpoint that keeps Hugging Face's names and conventions (docs/models.md §1):
// norm weights stored as w - 1, decay as A_log, V heads grouped by their K head.
#pragma once

#include "model/checkpoint_files.h"
#include "model/config.h"
#include "model/weights.h"

namespace sluice::model {

// Fills weights, tensors and skipped of a Model; `files` must outlive what it returns. The language model's
// tensors stand under `model.language_model.` or `model.`, whichever is there. `mtp.*` is complete or absent,
// and skipped if the config knows no such layer. A stored lm_head of a tied model is skipped, as transformers
// does. Tensors that nothing asks for are skipped too; a caller may warn of those that are not
// `model.visual.*`. Throws Error as load_model does.
Model read_hf_weights(const CheckpointFiles& files, const ModelConfig& config, const LoadProgress& progress);

}  // namespace sluice::model
