// Panels hold every weight where the kernels look for it.
#include "cpu/panels.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

struct Stored {
  model::Matrix matrix;
  std::vector<std::byte> bytes;
};

model::HeadOrder random_order(Random& random, std::size_t begin, std::size_t head_size, std::size_t n_heads) {
  model::HeadOrder order{.begin = begin, .head_size = head_size, .stored = std::vector<std::size_t>(n_heads)};
  std::iota(order.stored.begin(), order.stored.end(), std::size_t{0});
  std::ranges::shuffle(order.stored, random);
  return order;
}

Stored random_matrix(Random& random, model::DType dtype, std::size_t rows, std::size_t cols) {
  Stored stored;
  // One byte too many in front: files align nothing.
  stored.bytes.resize(1 + rows * model::bytes_of(dtype, cols));
  for (std::size_t i = 0; i < rows * cols; ++i) {
    const float value = static_cast<float>(pick(random, 0, 4000)) - 2000.0F;
    std::byte* to = stored.bytes.data() + 1 + i * model::bytes_of(dtype, 1);
    if (dtype == model::DType::kF32) {
      std::memcpy(to, &value, sizeof value);
    } else {
      const std::uint16_t bits = dtype == model::DType::kBF16
                                     ? float_to_bf16(value)
                                     : static_cast<std::uint16_t>(pick(random, 0, 0x7BFF));
      std::memcpy(to, &bits, sizeof bits);
    }
  }
  stored.matrix.dtype = dtype;
  stored.matrix.rows = rows;
  stored.matrix.cols = cols;
  stored.matrix.data = std::span(stored.bytes).subspan(1);
  if (rows >= 6 && pick(random, 0, 1) == 1) stored.matrix.row_order = random_order(random, rows - 6, 2, 3);
  if (cols >= 9 && pick(random, 0, 1) == 1) stored.matrix.col_order = random_order(random, cols - 9, 3, 3);
  return stored;
}

TEST(Panels, HoldEveryWeightInItsPlace) {
  Random random(test::seed_of_test());
  for (int round = 0; round < 300; ++round) {
    const model::DType dtype = std::array{model::DType::kBF16, model::DType::kBF16, model::DType::kF32,
                                          model::DType::kF16}[pick(random, 0, 3)];
    const bool is_bf16 = dtype == model::DType::kBF16 && pick(random, 0, 3) != 0;
    const std::size_t cols = pick(random, 1, 70);
    const std::size_t depth = (cols + 1) / 2 * 2;
    const Stored a = random_matrix(random, dtype, pick(random, 1, 40), cols);
    const Stored b = random_matrix(random, is_bf16 ? dtype : model::DType::kF32, pick(random, 1, 40), cols);
    std::array<SourceRow, kLanes> rows{};
    for (SourceRow& row : rows) {
      const std::size_t which = pick(random, 0, 4);
      if (which == 0) continue;
      row.matrix = which == 1 ? &b.matrix : &a.matrix;
      row.row = pick(random, 0, row.matrix->rows - 1);
    }
    const std::size_t element = is_bf16 ? sizeof(std::uint16_t) : sizeof(float);
    std::vector<std::byte> out(kLanes * depth * element, std::byte{0xA5});
    PanelMaker maker;
    ASSERT_TRUE(maker.make(rows, depth, is_bf16, out.data()));
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      std::vector<float> want(depth, 0.0F);
      if (rows[lane].matrix != nullptr)
        rows[lane].matrix->read_row(rows[lane].row, std::span(want).first(cols));
      for (std::size_t k = 0; k < depth; ++k) {
        float got = 0;
        if (is_bf16) {
          std::uint16_t bits = 0;
          std::memcpy(&bits, out.data() + ((k / 2 * kLanes + lane) * 2 + k % 2) * element, element);
          got = bf16_to_float(bits);
        } else {
          std::memcpy(&got, out.data() + (k * kLanes + lane) * element, element);
        }
        ASSERT_EQ(got, want[k]) << "lane " << lane << ", k " << k << ", depth " << depth;
      }
    }
  }
}

TEST(Panels, SeeWhatIsNotFinite) {
  Random random(test::seed_of_test());
  for (int round = 0; round < 100; ++round) {
    const std::size_t cols = pick(random, 1, 70);
    Stored stored = random_matrix(random, model::DType::kBF16, kLanes, cols);
    const std::uint16_t bad = pick(random, 0, 1) == 0 ? 0x7F80 : 0xFFC1;
    std::memcpy(stored.bytes.data() + 1 + 2 * pick(random, 0, kLanes * cols - 1), &bad, sizeof bad);
    std::array<SourceRow, kLanes> rows{};
    for (std::size_t lane = 0; lane < kLanes; ++lane) rows[lane] = {&stored.matrix, lane};
    const std::size_t depth = (cols + 1) / 2 * 2;
    std::vector<std::byte> out(kLanes * depth * sizeof(float));
    EXPECT_FALSE(PanelMaker().make(rows, depth, round % 2 == 0, out.data()));
  }
}

}  // namespace
}  // namespace sluice::cpu
