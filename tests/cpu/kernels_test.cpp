// Every matrix product of every table, those of this machine and the emulated ones, against a plain loop in fp64; and that
// neither rows nor columns beside it change a bit of a result.
#include "cpu/kernels.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "tests/cpu/devices.h"
#include "tests/cpu/emulated_kernels.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Aligned as packed weights are, and no longer than they.
template <typename T>
class Aligned {
 public:
  explicit Aligned(std::size_t n)
      : data_(static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64))) {}
  T* data() const { return data_.get(); }

 private:
  std::unique_ptr<T[], Free> data_;
};

enum class Product { kF32, kBF16, kBF16Long };

struct Shape {
  std::size_t rows, depth, n_panels, ldx, ldy;
};

// x and W of one product. What lies between rows of x is NaN.
class Operands {
 public:
  Operands(Random& random, const Shape& shape)
      : shape_(shape),
        x_(shape.rows * shape.ldx),
        x_bf16_(x_.size()),
        w_(shape.depth * columns()),
        packed_(w_.size()),
        packed_bf16_(w_.size()) {
    std::normal_distribution<float> normal;
    for (float& x : x_) x = std::numeric_limits<float>::quiet_NaN();
    for (std::size_t row = 0; row < shape.rows; ++row)
      for (std::size_t k = 0; k < shape.depth; ++k) x_[row * shape.ldx + k] = normal(random);
    for (std::size_t i = 0; i < x_.size(); ++i) x_bf16_[i] = float_to_bf16(x_[i]);
    for (std::size_t k = 0; k < shape.depth; ++k) {
      for (std::size_t column = 0; column < columns(); ++column) {
        const std::uint16_t weight = float_to_bf16(normal(random));
        w_[k * columns() + column] = bf16_to_float(weight);
        const std::size_t panel = column / kLanes * shape.depth * kLanes;
        packed_.data()[panel + k * kLanes + column % kLanes] = bf16_to_float(weight);
        packed_bf16_.data()[panel + (k / 2 * kLanes + column % kLanes) * 2 + k % 2] = weight;
      }
    }
  }

  std::size_t columns() const { return shape_.n_panels * kLanes; }

  // y [rows, ldy] of `n_rows` rows from `row` on and `n_panels` panels from `panel` on; NaN where nothing was written.
  std::vector<float> run(const Kernels& kernels, Product product, std::size_t row, std::size_t n_rows,
                         std::size_t panel, std::size_t n_panels) const {
    std::vector<float> y(n_rows * shape_.ldy, std::numeric_limits<float>::quiet_NaN());
    const std::size_t first = panel * shape_.depth * kLanes;
    if (product == Product::kF32) {
      kernels.matmul_f32(packed_.data() + first, shape_.depth, n_panels, x_.data() + row * shape_.ldx,
                         shape_.ldx, n_rows, y.data(), shape_.ldy, {});
      return y;
    }
    const void* x = x_.data() + row * shape_.ldx;
    if (kernels.activations == ActivationType::kBF16) x = x_bf16_.data() + row * shape_.ldx;
    const auto matmul = product == Product::kBF16 ? kernels.matmul_bf16 : kernels.matmul_bf16_long;
    matmul(packed_bf16_.data() + first, shape_.depth, n_panels, x, shape_.ldx, n_rows, y.data(), shape_.ldy,
           {});
    return y;
  }

  std::vector<float> run(const Kernels& kernels, Product product) const {
    return run(kernels, product, 0, shape_.rows, 0, shape_.n_panels);
  }

  // Σ x w and Σ |x w| over the first `depth` of K.
  void sums(bool is_bf16, std::size_t row, std::size_t column, std::size_t depth, double& sum,
            double& size) const {
    sum = size = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      const std::size_t at = row * shape_.ldx + k;
      const double x =
          is_bf16 ? static_cast<double>(bf16_to_float(x_bf16_[at])) : static_cast<double>(x_[at]);
      const double product = x * static_cast<double>(w_[k * columns() + column]);
      sum += product;
      size += std::abs(product);
    }
  }

 private:
  Shape shape_;
  std::vector<float> x_;
  std::vector<std::uint16_t> x_bf16_;
  std::vector<float> w_;  // [depth, columns]
  Aligned<float> packed_;
  Aligned<std::uint16_t> packed_bf16_;
};

Shape draw_shape(Random& random, std::size_t rows) {
  // Around the depths of a tile and of a piece (matmul_tiles.h), or any.
  constexpr std::size_t kDepths[] = {2,   4,   30,  32,  34,  62,  64,  126, 128,
                                     254, 256, 258, 286, 288, 512, 514, 600};
  Shape shape{};
  shape.rows = rows;
  shape.depth =
      pick(random, 0, 1) == 0 ? kDepths[pick(random, 0, std::size(kDepths) - 1)] : 2 * pick(random, 1, 300);
  shape.n_panels = pick(random, 1, 9);
  shape.ldx = shape.depth + pick(random, 0, 20);
  shape.ldy = shape.n_panels * kLanes + pick(random, 0, 20);
  return shape;
}

std::string describe(const Kernels& kernels, Product product, const Shape& shape) {
  const char* names[] = {"matmul_f32", "matmul_bf16", "matmul_bf16_long"};
  return std::string(kernels.name) + " " + names[static_cast<std::size_t>(product)] + ", " +
         std::to_string(shape.rows) + " rows, depth " + std::to_string(shape.depth) + ", " +
         std::to_string(shape.n_panels) + " panels, ldx " + std::to_string(shape.ldx) + ", ldy " +
         std::to_string(shape.ldy);
}

constexpr Product kProducts[] = {Product::kF32, Product::kBF16, Product::kBF16Long};

// n roundings of partial sums that are at most Σ |x w| in size: (1 + 2^-24)^n - 1, each product rounded or not. Products
// of this size don't come near the subnormal numbers.
double error_bound(std::size_t depth, double size) {
  return static_cast<double>(depth + 2) * 0x1p-24 * 1.001 * size;
}

TEST(Matmul, AgreesWithAPlainLoop) {
  Random random(test::seed_of_test());
  std::size_t n_elements = 0;
  std::size_t n_noticed = 0;
  for (std::size_t rows = 1; rows <= 40; ++rows) {
    const Shape shape = draw_shape(random, rows);
    const Operands operands(random, shape);
    for (const Kernels* kernels : all_tables()) {
      for (const Product product : kProducts) {
        SCOPED_TRACE(describe(*kernels, product, shape));
        const bool is_bf16 = product != Product::kF32 && kernels->activations == ActivationType::kBF16;
        const std::vector<float> y = operands.run(*kernels, product);
        n_elements += rows * operands.columns();
        for (std::size_t row = 0; row < rows; ++row) {
          for (std::size_t column = 0; column < shape.ldy; ++column) {
            const float found = y[row * shape.ldy + column];
            if (column >= operands.columns()) {
              ASSERT_TRUE(std::isnan(found)) << "written beside y, row " << row;
              continue;
            }
            double wanted = 0;
            double size = 0;
            operands.sums(is_bf16, row, column, shape.depth, wanted, size);
            ASSERT_LE(std::abs(static_cast<double>(found) - wanted), error_bound(shape.depth, size))
                << "row " << row << ", column " << column;
            double shorter = 0;
            operands.sums(is_bf16, row, column, shape.depth - 1, shorter, size);
            if (std::abs(static_cast<double>(found) - shorter) > error_bound(shape.depth, size)) ++n_noticed;
          }
        }
      }
    }
  }
  // The bound must notice one product too few, unless that is tiny by chance.
  EXPECT_GE(n_noticed * 10, n_elements * 8);
}

TEST(Matmul, ARowsBitsDontDependOnWhatIsBesideIt) {
  Random random(test::seed_of_test());
  for (std::size_t rows = 1; rows <= 40; ++rows) {
    const Shape shape = draw_shape(random, rows);
    const Operands operands(random, shape);
    for (const Kernels* kernels : all_tables()) {
      for (const Product product : kProducts) {
        SCOPED_TRACE(describe(*kernels, product, shape));
        const std::vector<float> whole = operands.run(*kernels, product);
        const std::size_t row = pick(random, 0, rows - 1);
        const std::size_t n_rows = pick(random, 1, rows - row);
        const std::size_t panel = pick(random, 0, shape.n_panels - 1);
        const std::size_t n_panels = pick(random, 1, shape.n_panels - panel);
        const std::vector<float> part = operands.run(*kernels, product, row, n_rows, panel, n_panels);
        for (std::size_t i = 0; i < n_rows; ++i)
          ASSERT_EQ(
              std::memcmp(part.data() + i * shape.ldy, whole.data() + (row + i) * shape.ldy + panel * kLanes,
                          n_panels * kLanes * sizeof(float)),
              0)
              << n_rows << " rows from " << row << ", " << n_panels << " panels from " << panel;
      }
    }
  }
}

TEST(Matmul, EmulatedTablesHaveTheProcessorsBits) {
  Random random(test::seed_of_test());
  std::size_t n_pairs = 0;
  for (const Kernels* emulated : emulated_tables()) {
    for (const Kernels* real : all_tables()) {
      if (real->name + std::string("_emulated") != emulated->name) continue;
      ++n_pairs;
      for (std::size_t rows = 1; rows <= 40; ++rows) {
        const Shape shape = draw_shape(random, rows);
        const Operands operands(random, shape);
        for (const Product product : {Product::kBF16, Product::kBF16Long}) {
          const std::vector<float> found = operands.run(*emulated, product);
          const std::vector<float> wanted = operands.run(*real, product);
          for (std::size_t row = 0; row < rows; ++row)
            ASSERT_EQ(std::memcmp(found.data() + row * shape.ldy, wanted.data() + row * shape.ldy,
                                  operands.columns() * sizeof(float)),
                      0)
                << describe(*real, product, shape) << ", row " << row;
        }
      }
    }
  }
  if (n_pairs == 0) GTEST_SKIP() << "this machine has no bf16 instructions";
}

}  // namespace
}  // namespace sluice::cpu
