#include "program/regions.h"

#include "base/error.h"

namespace sluice::program {
namespace {

using model::LayerKind;
using model::ModelConfig;

std::uint32_t narrow(std::size_t value) {
  return static_cast<std::uint32_t>(value);
}

// The regions of a list of rows, which ascend: one for each run of consecutive ones.
void add_rows(const Program& program, const RowGroup& group, Buffer buffer, std::uint32_t layer,
              Columns columns, std::vector<Region>& out) {
  const std::uint32_t last = program.rows[group.end - 1];
  if (last - program.rows[group.begin] + 1 == group.size()) {
    out.push_back({buffer, layer, program.rows[group.begin], last + 1, columns.begin, columns.end});
    return;
  }
  for (std::uint32_t i = group.begin; i < group.end;) {
    const std::uint32_t first = program.rows[i];
    std::uint32_t end = first;
    while (i < group.end && program.rows[i] == end) ++i, ++end;
    out.push_back({buffer, layer, first, end, columns.begin, columns.end});
  }
}

Columns head_columns(Columns all, std::size_t head, std::size_t size) {
  return {all.begin + narrow(head * size), all.begin + narrow((head + 1) * size)};
}

class Accesses {
 public:
  Accesses(const Program& program, const Task& task, Access& access)
      : program_(program), config_(program.config), task_(task), op_(program.ops[task.op]), access_(access) {}

  void fill() {
    const Columns hidden{0, narrow(config_.hidden_size)};
    switch (op_.kind) {
      case OpKind::kEmbed:
        read(Buffer::kTokens, {0, 1});
        write(Buffer::kResidual, hidden);
        write(Buffer::kRotary, rotary());
        return;
      case OpKind::kMixIn:
        read(Buffer::kResidual, hidden);
        write(Buffer::kProjection, tile());
        return;
      case OpKind::kKvAppend:
        kv_append();
        return;
      case OpKind::kMix:
        op_.layer_kind == LayerKind::kDeltaNet ? delta_net() : attention();
        return;
      case OpKind::kMixMerge:
        merge();
        return;
      case OpKind::kMixOut:
        read(Buffer::kMixed, {0, mixed_width()});
        read(Buffer::kResidual, tile());
        write(Buffer::kResidual, tile());
        return;
      case OpKind::kMlpIn:
        read(Buffer::kResidual, hidden);
        write(Buffer::kGated, tile());
        return;
      case OpKind::kMlpOut:
        read(Buffer::kGated, {0, narrow(config_.intermediate_size)});
        read(Buffer::kResidual, tile());
        write(Buffer::kResidual, tile());
        return;
      case OpKind::kHead:
        head(Buffer::kLogits);
        return;
      case OpKind::kScreen:
        if (const std::uint32_t n = skimmed_columns(config_.vocab_size); n > 0)
          access_.reads.push_back({Buffer::kScreened, 0, first_output(), end_output(), 0, n});
        head(Buffer::kScreened);
        return;
      case OpKind::kSkim:
        head(Buffer::kScreened);
        return;
      case OpKind::kSelect:
        output(Buffer::kScreened, Buffer::kSelected);
        return;
      case OpKind::kRecompute:
        access_.reads.push_back({Buffer::kSelected, 0, first_output(), end_output(), 0, 1});
        head(Buffer::kLogits);
        return;
      case OpKind::kSample:
        output(Buffer::kLogits, Buffer::kSampled);
        return;
    }
  }

 private:
  const RowGroup& group() const { return program_.groups[task_.rows]; }
  Columns tile() const { return program_.tilings[op_.tiling][task_.part]; }
  std::uint32_t mixed_width() const {
    return narrow(op_.layer_kind == LayerKind::kDeltaNet ? config_.value_dim() : config_.query_dim());
  }

  void read(Buffer buffer, Columns columns) {
    add_rows(program_, group(), buffer, is_per_layer(buffer) ? op_.layer : 0, columns, access_.reads);
  }
  void write(Buffer buffer, Columns columns) {
    add_rows(program_, group(), buffer, is_per_layer(buffer) ? op_.layer : 0, columns, access_.writes);
  }

  ProjectionLayout layout() const { return projection_layout(config_, op_.layer_kind); }
  Columns rotary() const { return {0, narrow(config_.rotary_dim)}; }

  void kv_append() {
    const ProjectionLayout layout = this->layout();
    const std::uint32_t head = task_.part;
    read(Buffer::kProjection, head_columns(layout.k, head, config_.head_dim));
    read(Buffer::kProjection, head_columns(layout.v, head, config_.head_dim));
    read(Buffer::kRotary, rotary());
    write(Buffer::kKeyValue, {head, head + 1});
  }

  // All rows of a span; K head `part` and the V heads that use it.
  void delta_net() {
    const ProjectionLayout layout = this->layout();
    const std::uint32_t span = task_.rows;
    const std::uint32_t begin = program_.first_row[span];
    const std::uint32_t end = program_.first_row[span + 1];
    const auto projected = [&](Columns columns) {
      access_.reads.push_back({Buffer::kProjection, 0, begin, end, columns.begin, columns.end});
    };
    const auto state = [&](Buffer buffer, Columns columns) {
      const Region region{buffer, op_.layer, span, span + 1, columns.begin, columns.end};
      access_.reads.push_back(region);
      access_.writes.push_back(region);
    };
    for (const Columns part : {layout.q, layout.k}) {
      const Columns columns = head_columns(part, task_.part, config_.key_head_dim);
      projected(columns);
      state(Buffer::kConvState, columns);  // Q | K | V stand first in the projection: the same columns
    }
    for (std::size_t head = task_.part; head < config_.n_value_heads; head += config_.n_key_heads) {
      const Columns value = head_columns(layout.v, head, config_.value_head_dim);
      projected(value);
      projected(head_columns(layout.z, head, config_.value_head_dim));
      projected(head_columns(layout.b, head, 1));
      projected(head_columns(layout.a, head, 1));
      state(Buffer::kConvState, value);
      state(Buffer::kDeltaState, head_columns({}, head, 1));
      const Columns mixed = head_columns({}, head, config_.value_head_dim);
      access_.writes.push_back({Buffer::kMixed, 0, begin, end, mixed.begin, mixed.end});
    }
  }

  // The columns of the query heads that use KV head `part`.
  Columns query_heads(Columns all) const {
    const std::size_t share = config_.n_heads / config_.n_kv_heads;
    return head_columns(all, task_.part, share * config_.head_dim);
  }

  void attention() {
    const ProjectionLayout layout = this->layout();
    const std::uint32_t span = program_.span_of_row(program_.rows[group().begin]);
    const std::uint32_t n_splits = program_.shape.spans[span].kv_splits;
    read(Buffer::kProjection, query_heads(layout.q));
    read(Buffer::kRotary, rotary());
    const std::uint32_t last = program_.rows[group().end - 1];
    access_.reads.push_back(
        {Buffer::kKeyValue, op_.layer, program_.first_row[span], last + 1, task_.part, task_.part + 1});
    if (n_splits == 1) {
      read(Buffer::kProjection, query_heads(layout.gate));
      write(Buffer::kMixed, query_heads({}));
    } else {
      const std::uint32_t column = task_.split * narrow(config_.n_kv_heads) + task_.part;
      write(Buffer::kPartial, {column, column + 1});
    }
  }

  void merge() {
    const std::uint32_t span = program_.span_of_row(program_.rows[group().begin]);
    for (std::uint32_t split = 0; split < program_.shape.spans[span].kv_splits; ++split) {
      const std::uint32_t column = split * narrow(config_.n_kv_heads) + task_.part;
      read(Buffer::kPartial, {column, column + 1});
    }
    read(Buffer::kProjection, query_heads(layout().gate));
    write(Buffer::kMixed, query_heads({}));
  }

  // Logits and what leads to them stand by output, not by row. Output rows are the last ones in Program::rows.
  std::uint32_t first_output() const { return group().begin - program_.shape.n_rows(); }
  std::uint32_t end_output() const { return group().end - program_.shape.n_rows(); }

  void head(Buffer to) {
    read(Buffer::kResidual, {0, narrow(config_.hidden_size)});
    access_.writes.push_back({to, 0, first_output(), end_output(), tile().begin, tile().end});
  }

  // All columns of one output.
  void output(Buffer from, Buffer to) {
    access_.reads.push_back({from, 0, task_.rows, task_.rows + 1, 0, narrow(config_.vocab_size)});
    access_.writes.push_back({to, 0, task_.rows, task_.rows + 1, 0, 1});
  }

  const Program& program_;
  const ModelConfig& config_;
  const Task& task_;
  const Op& op_;
  Access& access_;
};

}  // namespace

std::string_view name_of(Buffer buffer) {
  switch (buffer) {
    case Buffer::kTokens:
      return "tokens";
    case Buffer::kResidual:
      return "residual";
    case Buffer::kRotary:
      return "rotary";
    case Buffer::kProjection:
      return "projection";
    case Buffer::kMixed:
      return "mixed";
    case Buffer::kGated:
      return "gated";
    case Buffer::kPartial:
      return "partial";
    case Buffer::kLogits:
      return "logits";
    case Buffer::kScreened:
      return "screened";
    case Buffer::kSelected:
      return "selected";
    case Buffer::kSampled:
      return "sampled";
    case Buffer::kConvState:
      return "conv_state";
    case Buffer::kDeltaState:
      return "delta_state";
    case Buffer::kKeyValue:
      return "kv_cache";
  }
  return "?";
}

bool is_per_layer(Buffer buffer) {
  return buffer == Buffer::kConvState || buffer == Buffer::kDeltaState || buffer == Buffer::kKeyValue;
}

void regions_of(const Program& program, const Task& task, Access& access) {
  access.reads.clear();
  access.writes.clear();
  Accesses(program, task, access).fill();
}

}  // namespace sluice::program
