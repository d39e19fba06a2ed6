"""Mistakes in the chunked delta rule of the CPU device."""

from mutations import Mutation

CHUNK = "cpu/delta_chunk.cpp"
KERNELS = "cpu/kernels_chunk.h"
TABLES = ("cpu/kernels_portable.cpp", "cpu/kernels_avx2.cpp", "cpu/kernels_avx512.cpp",
          "cpu/kernels_avx512_bf16.cpp")
TESTS = ("test_cpu", )
FILTER = "*Delta*"  # the program's others take minutes


def chunk(name: str, trap: str, old: str, new: str) -> Mutation:
    return Mutation(name, trap, CHUNK, old, new, tests=TESTS, filter=FILTER)


def kernel(name: str, trap: str, old: str, new: str) -> Mutation:
    return Mutation(name, trap, KERNELS, old, new, compile=TABLES, tests=TESTS, filter=FILTER)


MUTATIONS = [
    chunk("chunk_loses_a_partial_state", "a last chunk that isn't full leaves the state as it was",
          "is_bf16_ ? run_bf16(value, beta, state, out) : run_f32(value, beta, state, out);",
          "std::vector<float> old(state, state + key_dim_ * value_dim_);"
          " is_bf16_ ? run_bf16(value, beta, state, out) : run_f32(value, beta, state, out);"
          " if (rows_ < max_rows(k_)) std::copy(old.begin(), old.end(), state);"),
    chunk("chunk_state_of_the_row_before", "the state of the last row but one: its decay is missing",
          "from_start_[i] = product;", "from_start_[i] = product; if (i + 1 == rows_) product = decay[i];"
          " if (i + 1 == rows_) from_start_[i] = i > 0 ? from_start_[i - 1] : 1.0F;"),
    chunk("chunk_decay_to_the_end_one_long", "a row's update decays by its own decay again",
          "i-- > 0; product *= decay[i]) to_end_[i] = product;",
          "i-- > 0;) to_end_[i] = product *= decay[i];"),
    chunk("chunk_prediction_without_decay", "earlier state predicts as if it didn't decay", "-beta[i] * product;",
          "-beta[i];"),
    chunk("chunk_update_with_scaled_keys", "β applied to the update once more", "-beta[i] * product;",
          "-beta[i] * beta[i] * product;"),
    kernel("chunk_mask_missing", "a row sees the rows behind it", "float between[kMaxDeltaChunk] = {};",
           "float between[kMaxDeltaChunk]; for (float& b : between) b = 1.0F;"),
    kernel("chunk_row_misses_itself", "a query doesn't see its own row's update", "between[i] = 1.0F;",
           "between[i] = 0.0F;"),
    kernel("chunk_solve_without_earlier_rows", "updates of a block of rows don't see those of earlier blocks",
           "for (size_t k = 0; k < row; ++k) {", "for (size_t k = row; k < row; ++k) {"),
    kernel("chunk_solve_without_its_own_rows", "updates within a block of rows don't see each other",
           "for (size_t i = k + 1; i < Rows; ++i) {", "for (size_t i = Rows; i < Rows; ++i) {"),
    kernel("chunk_factors_without_beta", "earlier rows corrected without β", "everywhere(-beta[i]);",
           "everywhere(-1.0F);"),
    kernel("chunk_transposed_keys_swapped", "pairs of bf16 keys exchanged",
           "const u16x16 even = __builtin_convertvector(pairs, u16x16);",
           "const u16x16 even = __builtin_convertvector(pairs >> 16U, u16x16);"),
]
