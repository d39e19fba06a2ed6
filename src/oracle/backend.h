// The oracle as a device: `--device oracle`.
#pragma once

#include <memory>

#include "model/weights.h"
#include "program/backend.h"

namespace sluice::oracle {

// Computes in fp32, row after row. `model` must outlive the backend.
std::unique_ptr<program::Backend> make_backend(const model::Model& model, std::size_t n_slots,
                                               std::size_t context);

}  // namespace sluice::oracle
