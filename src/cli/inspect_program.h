// sluice inspect --program: the Program of one step, what it costs, and its picture.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/common_options.h"
#include "model/random_model.h"
#include "model/weights.h"

namespace CLI {
class App;
}

namespace sluice::cli {

struct ProgramOptions {
  bool program = false;
  bool dot = false;
  std::optional<std::uint64_t> rows;    // that decode, each of a sequence of its own
  std::optional<std::uint64_t> prompt;  // rows of a sequence that is fed
  std::optional<std::string> shape;     // of a published model, instead of a checkpoint
};

// The model of --shape, MODEL, or the bundled one.
struct Subject {
  std::string name;
  std::unique_ptr<model::RandomModel> random;  // its weights are never filled
  std::optional<model::Model> loaded;

  const model::Model& model() const { return loaded ? *loaded : random->model(); }
};

Subject open_subject(const ProgramOptions& options, const CommonOptions& common);

void add_program_options(CLI::App& command, ProgramOptions& options);

// What `sluice inspect --program` prints: text, JSON, or with `dot` a graph in Graphviz's language. Reads no weights.
struct ProgramReport {
  std::string text;
  bool is_safe = true;  // as far as it was asked for: no graph tells
};
ProgramReport program_report(const ProgramOptions& options, const CommonOptions& common, bool json);

}  // namespace sluice::cli
