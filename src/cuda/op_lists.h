// Lists of ops in the device's memory, made when a shape is first run and kept while it is in use.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "cuda/context.h"
#include "cuda/launch.h"
#include "cuda/plan.h"
#include "model/config.h"
#include "program/program.h"

namespace sluice::cuda {

struct OpList {
  program::StepShape shape;
  std::vector<Op> ops;
  DeviceMemory memory;

  const Op* on_device() const { return device_pointer<const Op>(memory.address()); }
};

class OpLists {
 public:
  // `weights`, which the device has at `base`, must outlive it.
  OpLists(std::shared_ptr<const Context> context, const model::ModelConfig& config,
          const DeviceWeights& weights, std::uint64_t base)
      : context_(std::move(context)), config_(config), weights_(weights), base_(base) {}

  // Of a decode launch. Stays until `forget`.
  const OpList& of(const program::StepShape& shape);
  // What `of` returned last.
  const OpList& latest() const { return kept_.front(); }
  // Of long spans, whatever their shape. The same.
  const OpList& of_prefill(bool has_outputs);
  // Head and sampling alone, of rows whose residuals are there. Stays.
  const OpList& of_heads();

  // Those that were used long ago, if there are many. No launch may be under way.
  void forget();

 private:
  std::vector<Op> ops_of(const program::StepShape& shape) const;
  OpList upload(const program::StepShape& shape, std::vector<Op> ops) const;

  std::shared_ptr<const Context> context_;
  const model::ModelConfig& config_;
  const DeviceWeights& weights_;
  std::uint64_t base_;
  std::list<OpList> kept_;  // the one used last first
  std::optional<OpList> heads_;
};

}  // namespace sluice::cuda
