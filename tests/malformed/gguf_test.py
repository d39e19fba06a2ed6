"""Malformed GGUF files, versions 2 and 3: container, config, weights, tokenizer."""

import copy
import struct
import unittest

import formats
from formats import ARRAY, BOOL, F32, F64, I32, I64, STRING, U8, U32, U64, Gguf, gguf_array, gguf_scalar, gguf_string
from judge import INSPECT, LOGITS, TOKENIZE, Case, MalformedTest

CONFIG = formats.tiny_config(vocab_size=4, eos_token_id=2)
NAME = "model.gguf"
HUGE = (2**31, 2**32, 2**61, 2**62, 2**63, 2**64 - 1)


def tiny(version=3, kind="F32"):
    return formats.tiny_gguf(CONFIG, kind, version, tokenizer=False)


def with_tokenizer():
    return formats.tiny_gguf(formats.tiny_config(hidden_size=2, tie_word_embeddings=True), "BF16")


def case(name, file, command=INSPECT, mentions=(NAME,), model=NAME):
    data = file if isinstance(file, bytes) else file.bytes()
    return Case("GGUF: " + name, {model: data}, command, mentions, model)


def cuts(rng):
    for version in (2, 3):
        boundaries = []
        good = tiny(version).bytes(boundaries)
        end = len(good) - 1
        # The padding behind the last tensor's data may be left out.
        last = len(tiny(version).tensors[-1][3])
        places = {0, 1, 3, 5, 9, 17, boundaries[-2] - 1, boundaries[-2] - last}
        places |= set(rng.sample([at for at in boundaries if at < boundaries[-2]], 45))
        places |= set(rng.sample(range(end - last), 10))
        for at in sorted(places):
            yield case(f"version {version} cut after byte {at}", good[:at])
    good = with_tokenizer().bytes()
    for at in sorted(rng.sample(range(24, len(good) - 600), 15)):
        yield case(f"with tokenizer, cut after byte {at}", good[:at], TOKENIZE)


def headers():
    for magic in (b"GGML", b"gguf", b"FUGG", b"\0\0\0\0", b"PK\3\4", b"GGJT", b"{\"a\""):
        file = tiny()
        file.magic = magic
        yield case(f"magic {magic!r}", file)
    for version in (0, 1, 4, 5, 2**16, 2**24, 3 << 24, 2**32 - 1):
        yield case(f"version {version}", tiny(version))
    for count in ("n_tensors", "n_keys"):
        right = len(tiny().tensors if count == "n_tensors" else tiny().keys)
        for wrong in (0, 1, right - 1, right + 1, 10**6, *HUGE):
            file = tiny()
            setattr(file, count, wrong)
            yield case(f"{count} {wrong}", file)
    for version in (2, 3):
        yield case(f"version {version} with nothing in it", Gguf([], [], version))
    for kind, wrong in [(U32, 0), (U32, 1), (U32, 3), (U32, 48), (U32, 2**31), (U64, 2**63), (I32, -32), (F32, 32.0), (STRING, "32"),
                        (BOOL, 1), (U32, 2**32 - 1)]:
        file = tiny()
        file.keys.append(["general.alignment", kind, gguf_scalar(kind, wrong)])
        yield case(f"alignment {wrong!r} of type {kind}", file)
    file = tiny()
    file.keys.append(["general.alignment", U32, struct.pack("<I", 4096)])  # the data aren't where that says
    yield case("another alignment", file)


def lengths(rng):
    """Every kind of length that the file declares, too large."""
    good = tiny()
    for entry in rng.sample(range(len(good.keys)), 6):
        for wrong in rng.sample(HUGE, 2):
            file = tiny()
            raw = file.bytes()
            at = raw.index(gguf_string(file.keys[entry][0]))
            yield case(f"length {wrong} of a key's name", raw[:at] + struct.pack("<Q", wrong) + raw[at + 8 :])
    for entry in rng.sample(range(len(good.tensors)), 6):
        raw = good.bytes()
        at = raw.index(gguf_string(good.tensors[entry][0]))
        yield case("length of a tensor's name", raw[:at] + struct.pack("<Q", rng.choice(HUGE)) + raw[at + 8 :])
    for wrong in HUGE:
        for value in (struct.pack("<IQ", U8, wrong), struct.pack("<IQ", STRING, wrong), struct.pack("<IQ", F64, wrong),
                      struct.pack("<IQ", ARRAY, wrong), struct.pack("<IQ", 13, wrong)):
            file = tiny()
            file.keys.append(["last", ARRAY, value])
            yield case(f"array of {wrong} of type {value[0]}", file)
        file = tiny()
        file.keys.append(["last", STRING, struct.pack("<Q", wrong)])
        yield case(f"a string of {wrong} bytes", file)
        file.keys[-1] = ["last", ARRAY, struct.pack("<IQ", STRING, 2) + gguf_string("a") + struct.pack("<Q", wrong)]
        yield case(f"a string of {wrong} bytes in an array", file)
    nested = struct.pack("<IQ", ARRAY, 1) * 50_000
    file = tiny()
    file.keys.append(["deep", ARRAY, nested + gguf_array(U8, [1])])
    yield case("deep arrays", file)
    for kind in (13, 14, 255, 2**31, 2**32 - 1):
        file = tiny()
        file.keys.append(["last", kind, b"\0" * 8])
        yield case(f"a key of type {kind}", file)
    file = tiny()
    file.keys.append(["flag", BOOL, b"\2"])
    yield case("a bool of 2", file)
    file.keys[-1] = ["", U8, b"\0"]
    yield case("a key without a name", file)
    for i in rng.sample(range(len(good.keys)), 5):
        file = tiny()
        file.keys.append(file.keys[i])
        yield case(f"key {file.keys[i][0]} twice", file, mentions=(file.keys[i][0],))


WRONG_SIZES = [(U32, 0), (U64, 2**63), (U32, 2**32 - 1), (I32, -1), (I64, -(2**63)), (F32, 8.0), (STRING, "8"), (BOOL, 1),
               (U32, 2**24 + 1), (U64, 2**24 * 3)]
OPTIONAL = ("general.name", "general.file_type", "rope.dimension_sections", "context_length", "full_attention_interval",
            "attention.value_length", "rope.freq_base", "attention.layer_norm_rms_epsilon", "rope.dimension_count",
            "attention.head_count_kv")


def config(rng):
    for name, kind, _ in tiny().keys:
        if name.endswith(OPTIONAL[:3]):
            continue
        if not name.endswith(OPTIONAL):
            yield case(f"without {name}", remove(tiny(), name), mentions=(NAME, name))
        for wrong_kind, wrong in WRONG_SIZES if kind == U32 else [(STRING, "x"), (BOOL, 1), (F32, -1.0), (F32, 0.0),
                                                                   (F32, float("nan")), (F64, float("inf")), (I32, -1)]:
            if name.endswith("context_length") and wrong_kind in (U32, U64) and 0 < wrong < 2**31:
                continue  # long, but possible
            if name == "general.architecture" and wrong_kind == STRING:
                wrong = "llama"
            file = tiny()
            file.key(name)[1:] = [wrong_kind, gguf_scalar(wrong_kind, wrong)]
            yield case(f"{name} {wrong!r} of type {wrong_kind}", file, mentions=(NAME, name))
        file = tiny()
        file.key(name)[1:] = [ARRAY, gguf_array(U32, [1, 2])]
        if name != "general.architecture" and "head_count" not in name:
            yield case(f"{name} an array", file, mentions=(NAME, name))
    for field in ("block_count", "embedding_length", "feed_forward_length", "attention.key_length", "ssm.conv_kernel",
                  "ssm.state_size", "ssm.group_count", "ssm.inner_size", "attention.head_count"):
        file = tiny()
        entry = file.key("qwen35." + field)
        (right,) = struct.unpack("<I", entry[2])
        entry[2] = struct.pack("<I", right * 2 + 1)
        yield case(f"{field} {right * 2 + 1}", file, rng.choice((INSPECT, LOGITS)))


def remove(file, name):
    file.keys = [entry for entry in file.keys if entry[0] != name]
    file.tensors = [entry for entry in file.tensors if entry[0] != name]
    return file


def tensors(rng):
    names = [entry[0] for entry in tiny().tensors]
    for i, name in enumerate(names):
        if name != "output.weight":  # without it the head is tied
            yield case(f"without {name}", remove(tiny(), name), mentions=(name,))
        file = tiny()
        file.tensors.append(copy.deepcopy(file.tensor(name)))
        yield case(f"{name} twice", file, mentions=(name,))
        dimensions = file.tensors[i][1]
        shapes = [[], [0], [2**63, 2], [2**32] * 4, [2**64 - 1], [1] * 5, [*dimensions, 2], [dimensions[0] + 8, *dimensions[1:]],
                  [0, *dimensions], [2**61], [2**62, 4]]
        if len(set(dimensions)) > 1:
            shapes.append(dimensions[::-1])
        for wrong in rng.sample(shapes, 3):
            yield spoiled(f"{name} of shape {wrong}", name, 1, wrong)
        for wrong in rng.sample([4, 5, 9, 10, 11, 16, 24, 26, 28, 36, 41, 42, 99, 2**31, 2**32 - 1, 12, 14], 2):
            yield spoiled(f"{name} of type {wrong}", name, 2, wrong)
        for wrong in rng.sample([1, 8, 31, 2**40, 2**63, 2**64 - 32, 2**64 - 1], 2):
            yield spoiled(f"{name} at {wrong}", name, 4, wrong)
        if i > 0:
            yield spoiled(f"{name} over the first", name, 4, 0, (name, names[0]))
        yield case(f"{name} with a name of 70 kB", renamed(name, "n" * 70_000))


def spoiled(what, name, field, wrong, mentions=None):
    file = tiny()
    file.tensor(name)[field] = wrong
    return case(what, file, mentions=mentions or (name,))


def renamed(name, other):
    file = tiny()
    file.tensor(name)[0] = other
    return file


def not_finite(rng):
    for name, _, _, data, _ in tiny().tensors:
        at = 4 * rng.randrange(len(data) // 4)
        file = tiny()
        value = struct.pack("<f", float(rng.choice(["nan", "inf", "-inf"])))
        file.tensor(name)[3] = data[:at] + value + data[at + 4 :]
        yield case(f"{name} not finite at byte {at}", file, LOGITS, (name,))
    wide = {"num_hidden_layers": 1, "layer_types": ["linear_attention"], "vocab_size": 4, "linear_key_head_dim": 1,
            "linear_value_head_dim": 1, "tie_word_embeddings": True, "intermediate_size": 2}
    for kind, (_, block, size, scales) in formats.GGML.items():
        for scale in scales:
            file = formats.tiny_gguf(formats.tiny_config(**(wide | {"hidden_size": block})), kind, tokenizer=False)
            data = file.tensor("token_embd.weight")[3]
            at = scale + size * rng.randrange(len(data) // size)
            file.tensor("token_embd.weight")[3] = data[:at] + rng.choice([b"\0\x7c", b"\0\xfc", b"\1\x7e"]) + data[at + 2 :]
            yield case(f"{kind} with a scale at byte {scale} that isn't finite", file, LOGITS, ("token_embd",))
    file = tiny()
    file.tensor("blk.0.ssm_a")[3] = struct.pack("<2f", -0.5, 0.5)
    yield case("a state that grows", file, LOGITS, ("ssm_a",))


def tokenizers(rng):
    prefix = "tokenizer.ggml."
    count = formats.tiny_config()["vocab_size"]
    wrong = {
        "model": [(STRING, gguf_string("llama")), (STRING, gguf_string("")), (U32, b"\0" * 4)],
        "pre": [(STRING, gguf_string("llama-bpe")), (U32, b"\0" * 4), (STRING, gguf_string("\xff\n"))],
        "tokens": [(ARRAY, gguf_array(STRING, [])), (ARRAY, gguf_array(STRING, ["a", "b"])), (ARRAY, gguf_array(U32, [1] * count)),
                   (STRING, gguf_string("a")), (ARRAY, gguf_array(STRING, ["a"] * count)), (U32, b"\0" * 4),
                   (ARRAY, gguf_array(STRING, [b"\xff\xfe"] * count))],
        "token_type": [(ARRAY, gguf_array(I32, [1])), (ARRAY, gguf_array(I32, [99] * count)), (U32, b"\0" * 4),
                       (ARRAY, gguf_array(F32, [1.0] * count)), (ARRAY, gguf_array(I32, [-1] * count)),
                       (ARRAY, gguf_array(STRING, ["1"] * count))],
        "merges": [(ARRAY, gguf_array(STRING, ["he"])), (ARRAY, gguf_array(STRING, ["x y"])), (ARRAY, gguf_array(STRING, [""])),
                   (ARRAY, gguf_array(STRING, ["h e l"])), (ARRAY, gguf_array(U32, [1])), (STRING, gguf_string("h e")),
                   (ARRAY, gguf_array(STRING, [b"\xff \xfe"]))],
    }
    for key, values in wrong.items():
        for kind, value in values:
            file = with_tokenizer()
            file.key(prefix + key)[1:] = [kind, value]
            yield case(f"{key} {value[:40]!r} of type {kind}", file, TOKENIZE, (NAME, prefix + key))
        if key != "token_type":
            yield case(f"without {key}", remove(with_tokenizer(), prefix + key), TOKENIZE, (NAME, prefix + key))
    for field in ("eos_token_id", "padding_token_id"):
        for kind, value in ((I32, -1), (STRING, "x"), (F32, 1.0)):
            if field == "padding_token_id":
                continue  # nobody asks for it
            file = with_tokenizer()
            file.key(prefix + field)[1:] = [kind, gguf_scalar(kind, value)]
            yield case(f"{field} {value!r}", file, INSPECT, (NAME, prefix + field))
    file = with_tokenizer()
    file.key(prefix + "eos_token_id")[2] = struct.pack("<I", 10**6)
    yield case("an end token outside the vocabulary", file, INSPECT, (NAME, prefix))
    yield case("no tokenizer", tiny(), TOKENIZE, (NAME,))


def splits():
    def part(no, count, tensors=True, kind=2):
        file = tiny()
        width = {2: "<H", 4: "<I", 10: "<Q"}[kind]
        file.keys += [["split.no", kind, struct.pack(width, no)], ["split.count", kind, struct.pack(width, count)]]
        if not tensors:
            file.tensors = []
        return file.bytes()

    first, second = "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"

    def split_case(name, files, model=first):
        return Case("split GGUF: " + name, files, INSPECT, (".gguf",), model)

    yield split_case("one part missing", {first: part(0, 2)})
    yield split_case("both the same part", {first: part(0, 2), second: part(0, 2)})
    yield split_case("all tensors twice", {first: part(0, 2), second: part(1, 2)})
    yield split_case("other counts", {first: part(0, 2), second: part(1, 3)})
    yield split_case("second no GGUF", {first: part(0, 2), second: b"GGUF"})
    yield split_case("second empty", {first: part(0, 2), second: b""})
    yield split_case("under another name", {NAME: part(0, 2)}, NAME)
    for no, count in ((0, 2**16 - 1), (5, 2), (65535, 65535)):
        yield split_case(f"part {no} of {count}", {first: part(no, count)})
    yield split_case("part 2^64 - 1", {first: part(2**64 - 1, 2**64 - 1, kind=10)})


class GgufFiles(MalformedTest):
    def test_sound_ones(self):
        cases = [case(f"version {version}, {kind}", tiny(version, kind), LOGITS) for version in (2, 3)
                 for kind in ("F32", "F16", "BF16")]
        cases += [case("tokenizer", with_tokenizer(), TOKENIZE), case("inspected", with_tokenizer())]
        self.accept(cases)

    def test_cut(self):
        self.refuse(cuts(self.rng))

    def test_header(self):
        self.refuse([*headers(), *lengths(self.rng), *splits()])

    def test_config(self):
        self.refuse(config(self.rng))

    def test_tensors(self):
        self.refuse(tensors(self.rng))

    def test_not_finite(self):
        self.refuse(not_finite(self.rng))

    def test_tokenizer(self):
        self.refuse(tokenizers(self.rng))


if __name__ == "__main__":
    unittest.main()
