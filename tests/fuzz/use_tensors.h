// Reads what a loaded model points to, as a step would: spans that leave their file show up under the address sanitizer.
#pragma once

#include "model/weights.h"

namespace sluice::fuzz {

// The first and the last elements of every tensor, and of every matrix of the model in canonical order.
void use_tensor(const model::TensorView& tensor);
void use_model(const model::Model& model);

}  // namespace sluice::fuzz
