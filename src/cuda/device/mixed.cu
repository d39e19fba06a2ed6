// Mixed steps and prefill: one launch for any mix of short and long spans. Short spans are decode launches inside this one, by
// decode's own functions: the same bits. Long spans go their own way (prefill.h) up to the last layer's residual, of which rows with
// an output then take decode's head and sampling.
#include "cuda/device/decode.cu"
#include "cuda/device/prefill.h"

namespace sluice::cuda::device {
extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1)
    sluice_mixed(const __grid_constant__ MixedLaunch mixed) {
  const Block block(mixed.prefill);
  clear_next_counters(mixed.prefill.control);
  for (std::uint32_t i = 0; i <= mixed.n_groups + mixed.n_heads; ++i) {
    if (i < mixed.n_groups) {
      decode(mixed.groups[i]);
    } else if (i > mixed.n_groups) {
      decode(mixed.heads[i - mixed.n_groups - 1]);
    } else {
      if (threadIdx.x == 0) block.state().gave_up = 0;
      block.everybody();
      if (!block.is_control()) {
        Prefill prefill(mixed, block);
        if (prefill.run() && mixed.n_heads != 0) prefill.wait_for_outputs();
      }
    }
    block.everybody();
    if (block.state().gave_up != 0) return;
    block.everybody();  // the next one uses shared memory from the start
  }
}

}  // namespace sluice::cuda::device
