// Decoding of what computes in registers, and of more than one form: moves, conversions, comparisons, carries, matrices.
#include <algorithm>

#include <fmt/format.h>

#include "ptx/decode.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {

using Kind = Operand::Kind;

// mov d, a; mov d, {a, b…}; mov {a, b…}, d: in halves, and halves of halves.
void FunctionDecoder::mov() {
  expect_operands(2);
  const Operand& to = operand(0);
  const Operand& from = operand(1);
  const bool joins = from.kind == Kind::kVector;
  if (!joins && to.kind != Kind::kVector) {
    copy(to, type(), source(from, type()));
    return;
  }
  const std::vector<Operand>& elements = joins ? from.elements : to.elements;
  const std::uint32_t size =
      elements.empty() ? 0 : size_of(type()) / static_cast<std::uint32_t>(elements.size());
  if (elements.size() < 2 || size * elements.size() != size_of(type()) || (size != 2 && size != 4))
    fail("a vector that doesn't fit its register");
  const Type part = size == 2 ? Type::kB16 : Type::kB32;
  std::vector<Row> rows;
  if (joins) {
    for (const Operand& element : elements) rows.push_back(source(element, part));
    for (std::uint32_t bits = 16 * size; rows.size() > 1; bits *= 2) {
      for (std::size_t i = 0; i < rows.size() / 2; ++i)
        rows[i] = make(fmt::format(".join.b{}", bits), {rows[2 * i], rows[2 * i + 1]});
      rows.resize(rows.size() / 2);
    }
    copy(to, type(), rows[0]);
    return;
  }
  rows = {source(from, type())};
  for (std::uint32_t bits = 8 * size_of(type()); rows.size() < elements.size(); bits /= 2) {
    std::vector<Row> halves;
    for (const Row whole : rows) {
      for (const char* half : {"low", "high"}) {
        const bool unused = bits == 16 * size && elements[halves.size()].kind == Kind::kSink;
        halves.push_back(unused ? kTrue : make(fmt::format(".{}.b{}", half, bits), {whole}));
      }
    }
    rows = std::move(halves);
  }
  // All parts are read before the first is written: a part may be the register that is taken apart.
  for (std::size_t i = 0; i < elements.size(); ++i)
    if (elements[i].kind != Kind::kSink) copy(elements[i], part, rows[i]);
}

// cvt[.rounding][.relu][.ftz][.sat].D.S, in up to five steps.
void FunctionDecoder::cvt() {
  const std::string& from_name = words_.back();
  const std::string& to_name = words_[words_.size() - 2];
  const Type from = type();
  const Type to = *type_named(to_name);
  const bool flush = has("ftz");
  const bool saturate = has("sat");
  std::string integral;  // "rni"
  std::string mode;      // "rn"
  for (const std::string& word : words_) {
    if (word == "rni" || word == "rzi" || word == "rmi" || word == "rpi") integral = word;
    if (rounding_named(word)) mode = word;
  }
  const std::optional<Rounding> rounding = rounding_named(mode);
  // Of one float, or two.
  const std::string narrow =
      fmt::format(".cvt.{}.{}{}.f32", mode.empty() ? "rn" : mode, has("relu") ? "relu." : "", to_name);
  if (is_pair(to)) {
    expect_operands(3);
    copy(operand(0), to, make(narrow, {source(1, from), source(2, from)}));
    return;
  }
  expect_operands(2);
  Row value = source(operand(1), from, from != Type::kBF16);
  Type have = from;
  const auto step = [&](std::string_view name, Type type, std::optional<Rounding> how = std::nullopt) {
    value = make(name, {value}, how);
    have = type;
  };
  if (is_half(from)) step(fmt::format(".cvt.f32.{}", from_name), Type::kF32);
  if (flush && have == Type::kF32) step(".cvt.flush.f32", have);
  const std::string have_name = have == Type::kF32 ? "f32" : from_name;
  if (!integral.empty()) step(fmt::format(".cvt.{}.{}", integral, have_name), have);
  if (to == Type::kTF32) {
    step(".cvt.rna.tf32.f32", to);
  } else if (!is_float(to)) {
    const bool clamps = saturate && !is_float(have);  // from a float it always does
    step(fmt::format(".cvt.{}{}.{}", clamps ? "sat." : "", to_name, have_name), to);
  } else if (is_half(to)) {
    if (!is_float(have)) step(fmt::format(".cvt.f64.{}", have_name), Type::kF64, Rounding::kNearest);
    if (have == Type::kF64) step(".cvt.odd.f32.f64", Type::kF32);
    if (saturate) step(".cvt.saturate.f32", have);
    step(narrow, to);
  } else {
    if (have != to) step(fmt::format(".cvt.{}.{}", to_name, have_name), to, rounding);
    if (flush && from == Type::kF64) step(".cvt.flush.f32", to);
    if (saturate) step(fmt::format(".cvt.saturate.{}", to_name), to);
  }
  copy_widened(operand(0), to, value);
}

// To a register that may be wider than an integer's type: by sign or zeros.
void FunctionDecoder::copy_widened(const Operand& to, Type type, Row value) {
  const std::uint8_t width = row_width(target(to).type);
  if (is_float(type) || type == Type::kTF32 || width <= row_width(type)) {
    copy(to, type, value);
    return;
  }
  const char sign = is_signed(type) ? 's' : 'u';
  emit_form(form(fmt::format(".cvt.{0}{1}.{0}{2}", sign, 8 * width, 8 * row_width(type))), target(to).row,
            {value});
}

// setp.CMP[.BOOL][.ftz].T p[|q], a, b[, [!]c]: p is t BOOL c, q is !t BOOL c; of pairs, p is by the low halves and q by the high.
// set.CMP[.BOOL][.ftz].D.T d, a, b[, [!]c]: all ones or 1.0 where the comparison holds.
void FunctionDecoder::compare() {
  // By forms of the same type; of unsigned numbers, and by the opposite where a NaN is to hold.
  struct Comparison {
    std::string_view name, form;
    bool negated = false;
  };
  static constexpr Comparison kOthers[] = {{"lo", "lt"},        {"ls", "le"},        {"hi", "gt"},
                                           {"hs", "ge"},        {"equ", "ne", true}, {"neu", "eq", true},
                                           {"ltu", "ge", true}, {"leu", "gt", true}, {"gtu", "le", true},
                                           {"geu", "lt", true}, {"nan", "num", true}};
  Comparison comparison;
  std::string combine;
  for (const std::string& word : std::span(words_).subspan(1)) {
    if (word == "and" || word == "or" || word == "xor")
      combine = word;
    else if (word != "ftz" && !type_named(word))
      comparison = {word, word};
  }
  const auto* const other = std::ranges::find(kOthers, comparison.name, &Comparison::name);
  if (other != std::end(kOthers)) comparison = *other;
  expect_operands(combine.empty() ? 3 : 4);
  const Type from = type();
  const bool pair = is_pair(from);
  const std::string type_name = !pair ? words_.back() : (from == Type::kF16x2 ? "f16" : "bf16");
  const std::string name = fmt::format(".setp.{}.{}{}", comparison.form, has("ftz") ? "ftz." : "", type_name);
  const Row a = source(1, from);
  const Row b = source(2, from);
  const Row c = combine.empty() ? kTrue : source(3, Type::kPred);
  const auto holds = [&](const char* half) {
    const auto part = [&](Row whole) { return pair ? make(fmt::format(".{}.b32", half), {whole}) : whole; };
    const Row t = make(name, {part(a), part(b)});
    return comparison.negated ? make("not.pred", {t}) : t;
  };
  const auto combined = [&](Row t) {
    return combine.empty() ? t : make(fmt::format("{}.pred", combine), {t, c});
  };
  const Operand& to = operand(0);
  if (words_[0] == "setp") {
    if (pair && to.second.empty()) fail("needs p|q");
    if (is_half(from) && !to.second.empty()) fail("has one predicate, no complement");
    const Row t = holds("low");
    const bool has_q = !to.second.empty() && to.second != "_";
    // Both before either is written: c may be one of them.
    const Row q = has_q ? combined(pair ? holds("high") : make("not.pred", {t})) : kTrue;
    const Row p = combined(t);
    const auto write_q = [&] {
      if (has_q) copy({.kind = Kind::kName, .name = to.second}, Type::kPred, q);
    };
    const bool q_guards = to.second == now_->guard;  // then it is written last
    if (!q_guards) write_q();
    if (to.name != "_") copy({.kind = Kind::kName, .name = to.name}, Type::kPred, p);
    if (q_guards) write_q();
    return;
  }
  const Type whole = *type_named(words_[words_.size() - 2]);
  const bool fp16 = whole == Type::kF16 || whole == Type::kF16x2;
  const bool bf16 = whole == Type::kBF16 || whole == Type::kBF16x2;
  const Type part = pair ? Type::kB16 : whole;
  const std::uint64_t one =
      whole == Type::kF32 ? 0x3f800000U : (fp16 ? 0x3c00U : (bf16 ? 0x3f80U : ~std::uint64_t{0}));
  const auto value = [&](const char* half) {
    return make(fmt::format(".selp.{}", bits_name(part)),
                {program_.constant(one, row_width(part)), program_.constant(0, row_width(part)),
                 combined(holds(half))});
  };
  copy(to, whole, pair ? make(".join.b32", {value("low"), value("high")}) : value(""));
}

// add.cc, addc[.cc], sub.cc, subc[.cc], mad.(lo|hi).cc, madc.(lo|hi)[.cc]
void FunctionDecoder::carry() {
  const bool in = words_[0].ends_with('c');
  const bool multiply = words_[0].starts_with("mad");
  const bool subtract = words_[0].starts_with("sub");
  expect_operands(multiply ? 4 : 3);
  Row a = source(1, type());
  Row b = source(2, type());
  if (multiply) {
    a = make(fmt::format("mul.{}.{}", has("hi") ? "hi" : "lo", words_.back()), {a, b});
    b = source(3, type());
  }
  if (!carry_) carry_ = fresh(Type::kPred, false).row;
  const Row none = program_.constant(subtract ? ~std::uint64_t{0} : 0, 0);
  Operation op{.row =
                   form(fmt::format(".{}.carry.{}", subtract ? "sub" : "add", bits_name(type()))).function};
  op.rows[0] = destination(operand(0), type());
  op.rows[1] = a;
  op.rows[2] = b;
  op.rows[3] = in ? *carry_ : none;
  op.rows[4] = has("cc") ? *carry_ : fresh(Type::kPred).row;
  emit(op, 0b10001);
}

// mma.sync.aligned.SHAPE.row.col[.satfinite].D.A.B.C {d}, {a}, {b}, {c}
void FunctionDecoder::mma() {
  std::string name = ".mma";
  for (const std::string& word : std::span(words_).subspan(1))
    if (word != "sync" && word != "aligned" && word != "row" && word != "col")
      name += fmt::format(".{}", word);
  const Form& entry = form(name);
  expect_operands(4);
  std::vector<Row> rows;
  for (std::size_t i = 0; i < 4; ++i) {
    for (const Operand& one : parts(i, entry.registers[i]))
      rows.push_back(i == 0 ? destination(one, entry.destination) : source(one, entry.destination));
  }
  Operation op{.warp = &run::multiply_matrices};
  op.inner = entry.function;
  emit(op, 0, std::move(rows), entry.registers[0]);
}

}  // namespace sluice::ptx
