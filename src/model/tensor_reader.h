// What the readers of both checkpoint formats do with single tensors: find, check, keep count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model/tensor_source.h"
#include "model/weights.h"

namespace sluice::model {

class TensorReader {
 public:
  using Shape = std::vector<std::size_t>;
  enum class Ones : std::uint8_t { kCount, kLeadingAreOptional };  // extents of one in a shape

  // `wanted_by`: what shapes come from, for messages.
  TensorReader(const TensorSource& source, std::string wanted_by, Ones ones, const LoadProgress& progress)
      : source_(source),
        wanted_by_(std::move(wanted_by)),
        ones_(ones),
        progress_(progress),
        total_(source.total_bytes()) {}

  // The tensor `name`, which must have `shape`: Error else.
  const TensorView& tensor(const std::string& name, const Shape& shape);
  Matrix matrix(const std::string& name, std::size_t rows, std::size_t cols);
  // Matrices of `cols` columns and as many rows as `rows` says, which stand one below another in the tensor `name`.
  std::vector<Matrix> stacked(const std::string& name, const std::vector<std::size_t>& rows,
                              std::size_t cols);
  // Its values in fp32. Throws Error if it is quantized or one of them is infinite or not a number.
  std::vector<float> vector(const std::string& name, const Shape& shape);
  void check_finite(const std::string& name, const std::vector<float>& values) const;

  // Says that finish() is to refuse biases and scales of `module` ("blk.3.attn_q") though its weight, if there is one, isn't
  // used. Modules whose weight is used are known without.
  void know(const std::string& module) { modules_.insert(module); }

  // From here on, tensors that weren't used before are those of multi-token prediction.
  void begin_mtp() { in_mtp_ = true; }

  // Fills tensors and skipped of `model`. Throws Error if one that wasn't used belongs to a known module and isn't its weight,
  // such as a bias: results would be wrong without it.
  void finish(Model& model) const;

  const TensorSource& source() const { return source_; }

 private:
  bool fits(const Shape& stored, const Shape& wanted) const;
  void refuse_part_of_known_module(const std::string& name) const;

  const TensorSource& source_;
  std::string wanted_by_;
  Ones ones_;
  const LoadProgress& progress_;
  std::size_t total_;
  std::size_t done_ = 0;
  bool in_mtp_ = false;
  std::set<std::string, std::less<>> used_;
  std::set<std::string, std::less<>> mtp_;  // of those, the ones of multi-token prediction alone
  std::set<std::string, std::less<>> modules_;
};

}  // namespace sluice::model
