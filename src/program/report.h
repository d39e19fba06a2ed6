// What a Program is made of and what it costs, for people and for `bench`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/weights.h"
#include "program/program.h"

namespace sluice::program {

// Bytes that have to move and arithmetic that has to be done, whatever the kernels: weight matrices once for all rows, state
// read and written, KV read. FLOPs = 2 × multiply-accumulates of weight matrices, convolution, delta rule (recurrent form)
// and attention; norms, activations and softmax are element by element and are not counted.
struct OpCost {
  std::size_t weight_bytes = 0;
  std::size_t state_bytes = 0;
  std::size_t kv_bytes = 0;
  std::size_t flops = 0;

  std::size_t bytes() const { return weight_bytes + state_bytes + kv_bytes; }
  OpCost& operator+=(const OpCost& other);
  bool operator==(const OpCost&) const = default;
};

// `lengths` [spans]: positions of each span's sequence when the step is done.
OpCost cost_of(const Program& program, const Op& op, const model::Weights& weights,
               std::span<const std::size_t> lengths);
OpCost cost_of(const Program& program, const model::Weights& weights, std::span<const std::size_t> lengths);

// Tasks on the longest chain of waits.
std::size_t longest_chain(const Program& program);

struct OpReport {
  Op op;
  std::size_t n_counters = 0;  // that its tasks wait for
  std::size_t n_waits = 0;     // of all its tasks
  OpCost cost;
};

// Waits on the step before are left out everywhere.
struct Report {
  std::vector<OpReport> ops;  // in their order
  std::size_t n_tasks = 0;
  std::size_t n_counters = 0;
  std::size_t n_waits = 0;
  OpCost cost;
  std::size_t longest_chain = 0;
  std::vector<std::string> coarse;  // waits that ask for more than the data: who waits, for what
  std::string unsafe;               // what `verify` says
};

Report report_of(const Program& program, const model::Weights& weights, std::span<const std::size_t> lengths);

// A table, a line an op, layers of equal ops together; then totals, the longest chain, every wait that is coarser than the
// data asks, and whether `verify` accepts it.
std::string text_of(const Report& report);

// The ops of the first layer of each kind and of the head as a graph in Graphviz's language: boxes are ops with their tasks,
// arrows are waits with the number of counters and what each of them counts to.
std::string dot_of(const Program& program);

}  // namespace sluice::program
