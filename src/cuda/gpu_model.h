// How long a step should take on a GPU that isn't here: a model, never a measurement.
//
// Decode. Memory is one stream at the GPU's measured read bandwidth. Weights flow in the order of the ops into rings in shared
// memory, as far ahead as these are large, whatever has to be waited for; state and KV are asked for when their op may begin. An op
// begins one dependency (gpu_constants.h) after the op that it needs has ended, issues what it has to beside its products (staging,
// the mixer's arithmetic), and uses weights as fast as their instructions can be issued. Time in which memory stands still because rings are full, or nothing may be asked for yet, is what dependencies
// cost: `exposed_us`, counted at the op that had to get on. So a step is the sum of its ops' `stream_us` and `exposed_us`.
//
// Prefill. An op takes the longer of its weights' stream and its tiles in waves over the SMs, and then a whole dependency.
//
// Kernels without a ring, for the calibration: above their bytes they take a dependency and a memory latency for each barrier, a
// launch for each operation of the host, and the time by which too few blocks make a phase's own stream longer.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "cuda/gpu_constants.h"
#include "model/weights.h"

namespace sluice::cuda {

struct OpTime {
  std::string op;     // as the Program names it
  std::size_t n = 0;  // ops together
  double bytes = 0;
  double stream_us = 0;  // prefill: or what its arithmetic takes, if that is longer
  double exposed_us = 0;

  double us() const { return stream_us + exposed_us; }
};

struct StepTime {
  std::vector<OpTime> ops;  // of one name and layer kind together, in order of appearance
  std::size_t dependencies = 0;
  double raw_us = 0;      // all dependencies, if nothing were hidden
  double ring_bytes = 0;  // of an SM
  double tokens = 1;

  double bytes() const;
  double stream_us() const;
  double exposed_us() const;
  double us() const { return stream_us() + exposed_us(); }
  double tok_s() const { return tokens * 1e6 / us(); }
};

// Warp instructions that the decode kernel issues for a byte of weights, and beside it for an op in a block, and for a page of a KV
// head.
extern const Constant kInstructionsPerByte;
extern const Constant kInstructionsPerOp;
extern const Constant kInstructionsPerUnit;

// A row at `context` positions in the middle of a launch of many tokens. `is_screened`: the head's screened form, which the CUDA
// kernel doesn't have yet. Throws Error if the kernels don't take the model.
StepTime decode_time(const GpuConstants& gpu, const model::Model& model, std::size_t context,
                     bool is_screened);

// A prompt's first `rows` positions.
StepTime prefill_time(const GpuConstants& gpu, const model::Model& model, std::size_t rows);

// Bytes that only some blocks of the grid move while all others wait.
struct PartialPhase {
  std::size_t n = 0;
  double bytes = 0;       // of one
  double busy_share = 1;  // of the GPU's SMs
};

struct PublishedKernel {
  double bytes = 0;          // of a token
  std::size_t barriers = 0;  // of a token, waits for flags of other blocks among them
  std::size_t launches = 0;  // kernels, memsets and copies of a token
  PartialPhase partial;
};

// Microseconds of a token above bytes ÷ read bandwidth.
double time_above_stream(const GpuConstants& gpu, const PublishedKernel& kernel);

}  // namespace sluice::cuda
