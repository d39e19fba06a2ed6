#include "cuda/op_lists.h"

#include <algorithm>
#include <span>
#include <utility>

#include "program/builder.h"

namespace sluice::cuda {
namespace {

program::StepShape one_row(bool has_output) {
  program::StepShape shape;
  shape.spans.push_back({1, 1});
  if (has_output) shape.output_rows.push_back(0);
  return shape;
}

}  // namespace

std::vector<Op> OpLists::ops_of(const program::StepShape& shape) const {
  return decode_ops(program::build(config_, shape, {}), weights_, base_);
}

OpList OpLists::upload(const program::StepShape& shape, std::vector<Op> ops) const {
  OpList list{.shape = shape, .ops = std::move(ops), .memory = {}};
  const auto bytes = std::as_bytes(std::span(list.ops));
  list.memory = DeviceMemory(context_, bytes.size());
  list.memory.upload(0, bytes);
  return list;
}

const OpList& OpLists::of(const program::StepShape& shape) {
  const auto known = std::ranges::find(kept_, shape, &OpList::shape);
  if (known != kept_.end())
    kept_.splice(kept_.begin(), kept_, known);
  else
    kept_.push_front(upload(shape, ops_of(shape)));
  return kept_.front();
}

const OpList& OpLists::of_prefill(bool has_outputs) {
  return of(one_row(has_outputs));
}

const OpList& OpLists::of_heads() {
  if (!heads_) {
    const program::StepShape shape = one_row(true);
    heads_ = upload(shape, head_ops(ops_of(shape)));
  }
  return *heads_;
}

void OpLists::forget() {
  constexpr std::size_t kMost = 64;
  while (kept_.size() > kMost) kept_.pop_back();
}

}  // namespace sluice::cuda
