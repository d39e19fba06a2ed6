// sluice inspect --model-gpu: how long a step should take on a GPU that isn't here (cuda/gpu_model.h).
#pragma once

#include <cstddef>
#include <string>

#include "model/weights.h"

namespace sluice::cli {

// Text or JSON, every figure labelled 'modelled'. `name` is the GPU's, `subject` the model's. Throws Error for an unknown GPU or a
// model that the CUDA kernels don't take.
std::string gpu_report(const std::string& name, const std::string& subject, const model::Model& model,
                       std::size_t context, bool json);

}  // namespace sluice::cli
