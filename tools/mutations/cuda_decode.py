"""Mistakes in the CUDA device's decode entry point: barriers, waits, releases and copies left out or weakened, other blocks' data
read through the wrong cache, indices and buffers exchanged.

Two barriers are there for the compiler and for speed alone, and no test can miss them:
- block.h, wait_for_inputs: the __syncwarp before block.everybody(). The barrier waits for all lanes of the warp by itself, and orders
  what they did. It says to ptxas that the lane that polls joins the others before an aligned barrier.
- products.h, add_up: the __syncwarp behind finish(). What lanes wrote for others is ordered behind it by signal()'s own; what they
  read of the sums is ordered by barrier_arrive. It keeps lanes that write and lanes that don't from reading the next sums apart."""

from mutations import Mutation

BLOCK = "cuda/device/block.h"
PTX = "cuda/device/ptx.h"
RING = "cuda/device/ring.h"
PRODUCTS = "cuda/device/products.h"
STAGING = "cuda/device/staging.h"
DELTA = "cuda/device/delta_rule.h"
ATTENTION = "cuda/device/attention.h"
CANDIDATES = "cuda/device/candidates.h"
SAMPLING = "cuda/device/sampling.h"
DECODE = "cuda/device/decode.cu"


# Which tests are to notice; without one all of decode's.
NOTICED_BY = {CANDIDATES: "DecodeSampling", SAMPLING: "DecodeSampling"}


def kernel(file: str, name: str, trap: str, old: str, new: str, *also: tuple[str, str], architecture: int = 80,
           by: str = "") -> Mutation:
    return Mutation(f"decode_{name}", trap, file, old, new, also=also, tests=("test_cuda", ),
                    filter=f"*{by or NOTICED_BY.get(file, 'Decode')}*compute_{architecture}", kernels=architecture, entry=DECODE)


MUTATIONS = [
    # Between blocks.
    kernel(BLOCK, "without_wait", "an op begins before its inputs are there", "    if (block.lane == 0) wait_for(block, op, task);\n",
           ""),
    kernel(BLOCK, "wait_relaxed", "a counter is seen without an acquire", "load_acquire(counter)", "load_relaxed(counter)"),
    kernel(BLOCK, "wait_for_one_less", "a counter's last arrival isn't waited for", "if (seen >= target) return;",
           "if (seen + 1 >= target) return;"),
    kernel(BLOCK, "wait_for_the_first_step", "later steps take the first one's arrivals for theirs",
           "const std::uint32_t target = (block.step + 1) * gridDim.x;", "const std::uint32_t target = gridDim.x;", by="DecodeSampling"),
    kernel(BLOCK, "signal_relaxed", "a counter goes up without a release",
           "arrive_release(block.launch.control.counters + task * kCounterWords);",
           'asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(block.launch.control.counters + task * kCounterWords) :'
           ' "memory");'),
    kernel(BLOCK, "signal_of_the_op_before", "a counter goes up that nobody waits for",
           "counters + task * kCounterWords", "counters + (task == 0 ? 0 : task - 1) * kCounterWords"),
    kernel(BLOCK, "signal_before_other_lanes", "lane 0 signals before the others have written",
           "  __syncwarp();\n  if (block.lane == 0) arrive_release", "  if (block.lane == 0) arrive_release", by="DecodeSampling"),
    kernel(PTX, "acquire_of_the_block", "an acquire that orders nothing between blocks", "ld.acquire.gpu", "ld.acquire.cta"),
    kernel(PTX, "release_of_the_block", "a release that orders nothing between blocks", "red.release.gpu", "red.release.cta"),
    kernel(PTX, "tokens_released_to_the_gpu", "the host sees a count before its tokens", "st.release.sys", "st.release.gpu", by="SharesWithTheHost"),
    kernel(PTX, "stop_word_of_the_gpu", "the host's word is read as if only the GPU wrote it", "ld.relaxed.sys", "ld.relaxed.gpu", by="SharesWithTheHost"),
    kernel(PTX, "results_uncached_coherence", "numbers of this launch through the cache for constants", "ld.global.cg.f32",
           "ld.global.nc.f32"),
    kernel(PTX, "pairs_uncached_coherence", "pairs of this launch through the cache for constants", "ld.global.cg.v2.f32",
           "ld.global.nc.v2.f32", by="DecodeSampling"),
    kernel(PTX, "keys_uncached_coherence", "keys of this launch through the cache for constants", "ld.global.cg.v4.u32",
           "ld.global.nc.v4.u32", by="DecodeSampling"),
    kernel(PTX, "words_uncached_coherence", "values of this launch through the cache for constants", "ld.global.cg.u32",
           "ld.global.nc.u32", by="DecodeSampling"),
    kernel(DECODE, "counters_not_cleared", "the next launch's counters keep old numbers", "  clear_next_counters(launch.control);\n", ""),
    kernel(DECODE, "decided_by_every_block", "each block has a word in whether to go on",
           "if (blockIdx.x != 0 || block.lane != 0) return;\n  const Control& control", "if (block.lane != 0) return;\n  const Control& control", by="DecodeSampling"),
    kernel(DECODE, "tokens_not_released", "the host sees a count before its tokens",
           "store_release_system(&ring.n_steps, block.step + 1);", "ring.n_steps = block.step + 1;", by="SharesWithTheHost"),
    # Inside a block.
    kernel(BLOCK, "barrier_of_a_warp", "the block's barrier is only a warp's", "barrier_sync(kEverybody, kDecodeThreads);",
           "__syncwarp();"),
    kernel(BLOCK, "barrier_of_computing_warps", "the compute warps' barrier is only a warp's",
           "barrier_sync(kComputing, kComputeThreads);", "__syncwarp();"),
    kernel(BLOCK, "inputs_without_barrier", "warps don't wait for the one that does",
           "  block.everybody();\n  return block.state().gave_up == 0;", "  return block.state().gave_up == 0;"),
    kernel(DECODE, "product_before_staging", "products of operands that aren't there",
           "  block.everybody();\n  multiply(", "  multiply(",
           ("  block.everybody();\n  const std::uint32_t row = block.lane / 4;", "  const std::uint32_t row = block.lane / 4;")),
    kernel(DECODE, "signal_before_compute", "an op is done while its warps compute",
           "      if (op.weight == nullptr) block.everybody();\n", "",
           ("    if (op.weight == nullptr)\n      block.everybody();\n    else\n      finish", "    if (op.weight != nullptr)\n      finish")),
    kernel(DECODE, "gave_up_not_cleared", "a block gives up because of what shared memory held",
           "  if (threadIdx.x == 0) block.state().gave_up = 0;\n", ""),
    kernel(PRODUCTS, "sums_before_products", "sums of products that aren't there",
           "    barrier_sync(kFull + batch % 2, kDecodeThreads);\n", ""),
    kernel(PRODUCTS, "products_over_sums", "products over those that are being added",
           "    if (batch >= 2) barrier_sync(kEmpty + batch % 2, kDecodeThreads);\n", ""),
    kernel(PRODUCTS, "sums_of_the_other_buffer", "sums of the batch before",
           "tile_of(block, batch % 2, in_batch, 0)", "tile_of(block, (batch + 1) % 2, in_batch, 0)"),
    kernel(PRODUCTS, "batch_not_given_back", "nobody says that a batch has been added",
           "if (batch + 2 < n_batches) barrier_arrive(kEmpty + batch % 2, kDecodeThreads);", ""),
    kernel(DELTA, "state_before_keys", "the delta rule begins before its keys are there",
           "      block.computing_warps();\n#pragma unroll 1\n      for (std::uint32_t own",
           "#pragma unroll 1\n      for (std::uint32_t own"),
    kernel(DELTA, "keys_over_those_in_use", "the next head's keys over those in use",
           "      block.computing_warps();\n      left -=", "      left -="),
    kernel(ATTENTION, "scores_before_keys", "scores of queries and keys that aren't there",
           "    block.computing_warps();\n    std::uint16_t* keys", "    std::uint16_t* keys"),
    kernel(ATTENTION, "softmax_before_scores", "a softmax of scores that aren't there",
           "    block.computing_warps();\n    exponentiate(", "    exponentiate("),
    kernel(ATTENTION, "values_before_softmax", "weights that aren't there",
           "    block.computing_warps();\n    weigh(", "    weigh("),
    kernel(ATTENTION, "halves_before_both", "halves of the positions added up before they are there",
           "    block.computing_warps();\n    if (half != 0", "    if (half != 0"),
    kernel(ATTENTION, "unit_over_the_one_in_use", "the next unit over what the last one reads",
           "n_cached);\n    block.computing_warps();\n  }\n", "n_cached);\n  }\n"),
    kernel(ATTENTION, "both_halves_in_one_place", "even and odd positions add to the same numbers",
           "half == 0 ? even : odd;", "even;"),
    kernel(CANDIDATES, "list_changed_while_read", "a list's entries move while other lanes read them",
           "    __syncwarp();\n    if (place >= k) return;", "    if (place >= k) return;"),
    kernel(CANDIDATES, "list_read_while_changed", "lanes read a list that others still change",
           "    __syncwarp();\n  }\n};", "  }\n};"),
    kernel(SAMPLING, "lists_read_before_cleared", "lanes of a block without tokens read how long a list was",
           "  if (block.lane < kMostDecodeRows) block.state().n_listed[block.lane] = 0;\n  __syncwarp();\n",
           "  if (block.lane < kMostDecodeRows) block.state().n_listed[block.lane] = 0;\n", by="SomeBlocksHaveNoTokens"),
    kernel(SAMPLING, "merged_list_read_before_cleared", "lanes read how long the block's own list was",
           "  if (block.lane == 0) block.state().n_listed[index] = 0;\n  __syncwarp();\n",
           "  if (block.lane == 0) block.state().n_listed[index] = 0;\n"),
    # Copies of weights.
    kernel(RING, "without_copy_wait", "weights are read before they have arrived",
           "      wait_for_copies<kRingStages - 1>();\n", ""),
    kernel(RING, "copy_wait_one_less", "the oldest stage is read while it is on its way", "wait_for_copies<kRingStages - 1>",
           "wait_for_copies<kRingStages>"),
    kernel(RING, "copies_not_committed", "waits that wait for nothing", "  __device__ void begin_stage() {\n    commit_copies();\n",
           "  __device__ void begin_stage() {\n"),
    kernel(RING, "exit_with_copies", "a block ends with copies under way", "    commit_copies();\n    wait_for_copies<0>();\n", ""),
    kernel(RING, "exit_with_copies_of_no_group", "a block ends with copies under way that no group has yet",
           "    commit_copies();\n    wait_for_copies<0>();\n", "    wait_for_copies<0>();\n"),
    kernel(RING, "fills_the_next_slot", "copies go to a slot that is in use", "copy_async(at_, from_, bytes_);",
           "copy_async(at_ + kChunkBytes == end_of_stage_ ? at_ : at_ + kChunkBytes, from_, bytes_);"),
    kernel(RING, "reads_the_next_slot", "weights of the chunk behind", "return load_shared(at_);",
           "return load_shared(at_ + kChunkBytes == end_of_stage_ ? at_ : at_ + kChunkBytes);"),
    kernel(RING, "panel_after_next", "a warp's chunks of every other panel", "from_ += to_next_panel_;",
           "from_ += 2 * to_next_panel_;"),
    # Indices and halves.
    kernel(BLOCK, "share_one_short", "a unit that no block has", "extra.rest + of_block.rest >= gridDim.x",
           "extra.rest + of_block.rest > gridDim.x"),
    kernel(BLOCK, "quotient_one_short", "a division's remainder as large as the divisor",
           "rest < gridDim.x ? Quotient{whole, rest} : Quotient{whole + 1, rest - gridDim.x};", "Quotient{whole, rest};"),
    kernel(BLOCK, "position_of_the_first_step", "later steps at the first one's position", "(row - span.first_row) + step;",
           "(row - span.first_row);", by="DecodeSampling"),
    kernel(BLOCK, "page_too_few", "a page's first position has no page", "position(row) / kKvPage + 1;",
           "(position(row) + kKvPage - 1) / kKvPage;", by="ReadsAllPages"),
    kernel(RING, "chunk_too_many", "a warp's share begins in the last one's", "{op.chunks * warp / kComputeWarps,",
           "{(op.chunks * warp - (warp == 0 ? 0 : 1)) / kComputeWarps,"),
    kernel(PRODUCTS, "half_as_far_apart", "warps' products over each other", "kComputeWarps + warp) * 64;", "kComputeWarps + warp) * 32;"),
    kernel(PRODUCTS, "rows_that_are_not_there", "outputs of rows behind the step's last",
           "const bool has_row = step_row < block.launch.n_rows;", "const bool has_row = true;"),
    kernel(PRODUCTS, "column_of_the_next_block", "a block writes the next one's first column",
           "has_row && in_block + 1 < n_rows", "has_row && in_block + 1 < n_rows + 1"),
    kernel(PRODUCTS, "rows_exchanged", "compute_75 adds up the wrong half of the rows", "(block.lane & 1U) != 0;",
           "(block.lane & 1U) == 0;", architecture=75),
    kernel(PRODUCTS, "rows_not_back", "compute_75 leaves the sums of rows in each other's place", "exchange();  // twice",
           "if (first == 0) exchange();  // twice", architecture=75),
    kernel(STAGING, "operand_without_rows", "rows of an operand over each other", "(k / kChunk * block.launch.n_rows + row)",
           "(k / kChunk + row)"),
    kernel(STAGING, "padding_not_cleared", "what lies behind an operand's width counts",
           "operand[operand_index(block, row, k)] = 0;", ";"),
    kernel(STAGING, "squares_of_all_warps_in_one", "warps' sums of squares over each other",
           "square_sums[row][block.warp] = squares", "square_sums[row][0] = squares"),
    kernel(DELTA, "conv_state_in_the_half_in_use", "the convolution's inputs over those that are read",
           "is_first ? first + half : first,", "is_first ? first : first + half,"),
    kernel(DELTA, "conv_state_of_the_first_step", "later steps read the first one's inputs",
           "((span.conv_parity ^ block.step) & 1U)", "(span.conv_parity & 1U)", by="DecodeSampling"),
    kernel(DELTA, "keys_over_queries", "keys of a span's first row over queries of its second",
           "query(block.launch.n_rows + row)", "query(row + 1)"),
    kernel(DELTA, "inputs_kept_twice", "two blocks keep the same key's inputs",
           "if (vectors.key_head[earlier] == vectors.key_head[head]) return false;", ";"),
    kernel(DELTA, "gates_exchanged", "β and the decay in each other's place", "beta = gates(row)[0];", "beta = gates(row)[1];",
           ("decay = gates(row)[1];", "decay = gates(row)[0];")),
    kernel(ATTENTION, "own_key_from_the_cache", "the step's key is read where it is being written",
           "span.position + block.step;  // of", "span.position + block.step + 1;  // of"),
    kernel(ATTENTION, "fresh_keys_overlap", "new keys and values over each other", "(2 * row + (is_value ? 1 : 0))",
           "(row + (is_value ? 1 : 0))"),
    kernel(ATTENTION, "values_as_keys", "keys in the place of values", "return model.n_kv_heads * kKvPage * model.kv_stride();",
           "return 0;"),
    kernel(ATTENTION, "sums_of_the_next_page", "a head's sums over another page's", "+ head * block.launch.buffers.max_pages) * 2",
           "+ head) * 2"),
    kernel(ATTENTION, "last_page_again", "the last page counts more than once",
           "page + i < n_pages ? exponential(of_pages[i].x - most) : 0.0F", "exponential(of_pages[i].x - most)", by="ReadsAllPages"),
    kernel(SAMPLING, "one_place_for_all_blocks", "blocks' candidates over each other", "* gridDim.x + blockIdx.x", "* gridDim.x"),
    kernel(SAMPLING, "half_of_the_columns", "half of a panel's columns are never chosen", "best_of_lanes(best_, 4)",
           "best_of_lanes(best_, 2)"),
]
