// The functions that the library exports.
#pragma once

#include "ptx/driver/abi.h"

namespace sluice::ptx::api {

extern "C" {
#define SLUICE_CUDA_FUNCTION(name, suffix, since, parameters) CUresult name##suffix parameters;
#include "ptx/driver/functions.inc"
#undef SLUICE_CUDA_FUNCTION
}

}  // namespace sluice::ptx::api
