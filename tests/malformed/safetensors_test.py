"""Malformed safetensors files and indexes."""

import copy
import json
import struct
import unittest

from formats import numbers, safetensors_bytes, safetensors_header, tiny_config, tiny_tensors
from json_cases import broken_documents, cut_documents, doubled_keys, text
from judge import INSPECT, LOGITS, Case, MalformedTest

CONFIG = tiny_config(vocab_size=4, eos_token_id=2)
TENSORS = tiny_tensors(CONFIG)
CONFIG_FILE = {"config.json": text(CONFIG)}
NAME = "model.safetensors"
INDEX = "model.safetensors.index.json"

NOT_FINITE = {"F32": [struct.pack("<f", float(x)) for x in ("nan", "inf", "-inf")],
              "BF16": [b"\xc0\x7f", b"\x80\x7f", b"\x80\xff"]}


def case(name, data, command=INSPECT, mentions=(NAME,)):
    return Case("safetensors: " + name, CONFIG_FILE | {NAME: data}, command, mentions)


def cuts(rng):
    good = safetensors_bytes(TENSORS)
    (length,) = struct.unpack_from("<Q", good)
    places = {0, 1, 7, 8, 9, 8 + length - 1, 8 + length, len(good) - 1}
    places |= set(rng.sample(range(10, 8 + length), 12))
    for entry in safetensors_header(TENSORS).values():
        begin, end = entry["data_offsets"]
        places |= {8 + length + begin, 8 + length + (begin + end) // 2}
    for at in sorted(places):
        yield case(f"cut after byte {at}", good[:at])


def lengths():
    good = safetensors_bytes(TENSORS)
    (length,) = struct.unpack_from("<Q", good)
    for wrong in (0, 1, 2, length - 8, length - 9, length + 1, length + 8, len(good) - 8, len(good), 2**31, 2**32,
                  100_000_001, 2**63, 2**64 - 1):
        yield case(f"header length {wrong}", struct.pack("<Q", wrong) + good[8:])


def header_changes(entry):
    """(name, what to put into the entry): each makes it wrong."""
    begin, end = entry["data_offsets"]
    shape = entry["shape"]
    for dtype in ("F64", "I64", "BOOL", "F8_E4M3", "f32", "", "BF16 ", "Q8_0", 5, None, ["BF16"], {}):
        yield f"dtype {dtype!r}", {"dtype": dtype}
    shapes = [[], [0], [-1], [2**64 - 1], [2**63, 2], [2**64], [10**30], [1.5], ["8"], [[8]], [True], [None], None, "8", 8,
              {}, [1] * 65, [1, *shape], [*shape, 1], [*shape[:-1], shape[-1] + 1], [2**32] * 4, [0, 2**64 - 1]]
    if shape[::-1] != shape:
        shapes.append(shape[::-1])
    for wrong in shapes:
        yield f"shape {str(wrong)[:60]}", {"shape": wrong}
    for wrong in ([begin + 1, end + 1], [begin, end + 2], [begin + 2, end], [end, begin], [-1, end], [begin, 2**64 - 1],
                  [2**63, 2**63 + end - begin], [2**64 - 1, 2**64 - 1], [begin], [begin, end, end], [], None, "0", {},
                  [float(begin), float(end)], [begin, None], [begin + 10**6, end + 10**6], [10**30, 10**30], [begin, begin]):
        yield f"data_offsets {wrong}", {"data_offsets": wrong}


def entries(rng):
    header = safetensors_header(TENSORS)
    for name, entry in header.items():
        for what, change in rng.sample(list(header_changes(entry)), 6):
            yield case(f"{name} with {what}",
                       safetensors_bytes(TENSORS, header | {name: entry | change}), mentions=(name,))
        rest = list(entry)
        field = rng.choice(rest)
        smaller = {key: value for key, value in entry.items() if key != field}
        yield case(f"{name} without {field}", safetensors_bytes(TENSORS, header | {name: smaller}), mentions=(name,))
    first = next(iter(header))
    for wrong in (None, 5, "x", [], [1], {}, True):
        yield case(f"entry {wrong!r}", safetensors_bytes(TENSORS, header | {first: wrong}), mentions=(first,))
    yield case("unknown field", safetensors_bytes(TENSORS, header | {first: header[first] | {"more": 1}}), mentions=(first,))
    # Every tensor in turn over its neighbour.
    names = list(header)
    for name, other in zip(names, names[1:]):
        moved = header | {other: header[other] | {"data_offsets": header[name]["data_offsets"]}}
        yield case(f"{other} over {name}", safetensors_bytes(TENSORS, moved), mentions=(name, other))


def missing():
    for name in TENSORS:
        rest = {key: entry for key, entry in TENSORS.items() if key != name}
        yield case(f"without {name}", safetensors_bytes(rest), mentions=(name,))
        renamed = {key if key != name else key + ".": entry for key, entry in TENSORS.items()}
        yield case(f"{name} renamed", safetensors_bytes(renamed), mentions=(name,))


def covers():
    good = safetensors_bytes(TENSORS)
    yield case("one byte more", good + b"\0")
    yield case("a page more", good + b"\0" * 4096)
    header = safetensors_header(TENSORS)
    data = b"".join(entry[2] for entry in TENSORS.values())
    shifted = {name: entry | {"data_offsets": [x + 8 for x in entry["data_offsets"]]} for name, entry in header.items()}
    yield case("a hole at the start", safetensors_bytes(TENSORS, shifted, data=b"\0" * 8 + data))
    yield case("no tensors but data", safetensors_bytes({}, data=data))
    yield case("nothing", safetensors_bytes({}))
    for wrong in (5, None, [], "x", {"a": 1}, {"a": None}, {"a": {}}, {"a": ["b"]}):
        yield case(f"__metadata__ {wrong!r}", safetensors_bytes(TENSORS, {"__metadata__": wrong} | header))
    many = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(5000)}
    yield case("5000 empty tensors", safetensors_bytes({}, many), mentions=(NAME, "embed_tokens"))
    yield case("a tensor too many", safetensors_bytes({}, {f"{'n' * 100}{i * 7919 % 100_003:06}": many["t0"] for i in range(100_001)}),
               mentions=("more than 100000 tensors",))
    yield case("a name of 100 kB", safetensors_bytes(TENSORS, header | {"n" * 100_000: 5}))
    yield case("a name of control characters",
               safetensors_bytes(TENSORS, header | {"\x1b[2J\n\r\x07sluice: error: x": 5}))


def headers(rng):
    header = safetensors_header(TENSORS)
    data = b"".join(entry[2] for entry in TENSORS.values())
    for documents in (broken_documents(header), list(doubled_keys(header))[:8], cut_documents(header, rng, 10)):
        for name, document in documents:
            yield case("header: " + name, safetensors_bytes({}, text=document, data=data))
    yield case("header begins with a space", safetensors_bytes({}, text=b" " + text(header), data=data))


def not_finite(rng):
    for name, (dtype, shape, data) in TENSORS.items():
        width = len(NOT_FINITE[dtype][0])
        for value in rng.sample(NOT_FINITE[dtype], 2):
            at = width * rng.choice([0, len(data) // width - 1, rng.randrange(len(data) // width)])
            tensors = TENSORS | {name: [dtype, shape, data[:at] + value + data[at + width :]]}
            yield case(f"{name} with {value.hex()} at byte {at}", safetensors_bytes(tensors), LOGITS, (name,))


def sharded(index=None, files=None, map_changes=None):
    """Two shards and their index."""
    names = list(TENSORS)
    parts = {"one.safetensors": names[: len(names) // 2], "two.safetensors": names[len(names) // 2 :]}
    shards = {file: safetensors_bytes({name: TENSORS[name] for name in part}) for file, part in parts.items()}
    weight_map = {name: file for file, part in parts.items() for name in part} | (map_changes or {})
    if index is None:
        index = text({"metadata": {"total_size": 1}, "weight_map": weight_map})
    result = CONFIG_FILE | shards | {INDEX: index} | (files or {})
    return {name: data for name, data in result.items() if data is not None}


def indexes(rng):
    first, last = list(TENSORS)[0], list(TENSORS)[-1]
    mentions = (INDEX, ".safetensors")
    good = json.loads(sharded()[INDEX])

    def index_case(name, **parts):
        return Case("index: " + name, sharded(**parts), INSPECT, mentions)

    for documents in (broken_documents(good), doubled_keys(good), cut_documents(good, rng, 10)):
        for name, document in documents:
            yield index_case(name, index=document)
    for wrong in (None, 5, [], "x", {}, [["a", "b"]]):
        yield index_case(f"weight_map {wrong!r}", index=text({"weight_map": wrong}))
    for wrong in (None, 5, [], {}, "", "x", ".", "..", "../one.safetensors", "/etc/passwd", "/dev/zero.safetensors",
                  "a/one.safetensors", "one.safetensors\0", "three.safetensors", "two.safetensors", "one.safetensors/",
                  "\n.safetensors", "ONE.safetensors"):
        yield index_case(f"{first} in {wrong!r}", map_changes={first: wrong})
    yield index_case("a tensor that isn't there", map_changes={"no.such": "one.safetensors"})
    yield index_case("a shard that isn't there", files={"two.safetensors": None})
    yield index_case("an empty shard", files={"two.safetensors": b""})
    yield index_case("a cut shard", files={"two.safetensors": sharded()["two.safetensors"][:-1]})
    yield index_case("both shards the same", files={"two.safetensors": sharded()["one.safetensors"]})
    rest = {name: TENSORS[name] for name in list(TENSORS)[len(TENSORS) // 2 :]} | {first: TENSORS[first]}
    yield index_case("a tensor in both", files={"two.safetensors": safetensors_bytes(rest)})
    weight_map = {name: file for name, file in good["weight_map"].items() if name != last}
    yield Case("index: a tensor that the map leaves out, and its shard too",
               sharded(index=text({"weight_map": weight_map}), files={"two.safetensors": safetensors_bytes(
                   {name: TENSORS[name] for name in weight_map if name not in list(TENSORS)[: len(TENSORS) // 2]})}),
               INSPECT, (last,))


class Safetensors(MalformedTest):
    def test_sound_ones(self):
        shards = Case("sharded", sharded(), LOGITS, ())
        other_types = copy.deepcopy(TENSORS)
        for entry in other_types.values():
            entry[0], entry[2] = "F32", numbers(self.rng, "F32", len(entry[2]) // (4 if entry[0] == "F32" else 2))
        self.accept([shards, case("as made", safetensors_bytes(TENSORS), LOGITS),
                     case("inspected", safetensors_bytes(TENSORS)), case("F32", safetensors_bytes(other_types), LOGITS)])

    def test_cut(self):
        self.refuse(cuts(self.rng))

    def test_header(self):
        self.refuse([*lengths(), *headers(self.rng)])

    def test_entries(self):
        self.refuse(entries(self.rng))

    def test_missing_and_uncovered(self):
        self.refuse([*missing(), *covers()])

    def test_not_finite(self):
        self.refuse(not_finite(self.rng))

    def test_index(self):
        self.refuse(indexes(self.rng))


if __name__ == "__main__":
    unittest.main()
