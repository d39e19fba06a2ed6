"""Ways in which a JSON document can be wrong, whatever it says."""

import json

HUGE = (2**63, 2**64, 2**64 - 1, 10**400)


def text(value):
    return json.dumps(value).encode()


def broken_documents(document):
    """(name, bytes) of texts that are no JSON, or none that anybody should read."""
    good = text(document)
    yield "empty", b""
    yield "blank", b" \n\t "
    yield "not JSON", b"<html></html>"
    yield "two documents", good + good
    yield "text behind it", good + b"x"
    yield "zero byte behind it", good + b"\0"
    yield "zero byte inside", good.replace(b":", b":\0", 1)
    yield "no UTF-8", good.replace(b'"', b'"\xff\xfe', 1)
    yield "half a surrogate", good.replace(b'"', b'"\\ud800', 1)
    yield "overlong", good.replace(b'"', b'"\xc0\x80', 1)
    yield "UTF-16", good.decode().encode("utf-16")
    yield "comment", b"/* c */ x" + good
    yield "single quotes", good.replace(b'"', b"'")
    yield "comma too many", good[:-1] + b",}"
    yield "NaN", b'{"a": NaN}'
    yield "number too large", b'{"a": 1e999}'
    yield "deep array", b'{"a":' + b"[" * 200_000
    yield "deep array, closed", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield "deep object", b'{"a":' * 100_000
    yield "line feed in a string", good.replace(b'"', b'"\n', 1)
    for value in (None, True, 5, -1.5, "text", [], [1], [[]]):
        yield f"{json.dumps(value)} instead of an object", text(value)


def doubled_keys(document):
    """(name, bytes) with one key given twice."""
    inside = text(document)[1:-1]
    for key, value in document.items():
        yield f"{key} twice", b"{" + inside + b", " + text(key) + b": " + text(value) + b"}"


def cut_documents(document, rng, count):
    good = text(document)
    for at in sorted(rng.sample(range(1, len(good)), min(count, len(good) - 1))):
        yield f"cut after byte {at}", good[:at]


def without_marks(document, rng, count):
    """One brace, bracket, comma, colon or quote left out."""
    good = text(document)
    marks = [i for i, byte in enumerate(good) if byte in b'{}[]:"']
    for at in sorted(rng.sample(marks, min(count, len(marks)))):
        yield f"without byte {at}", good[:at] + good[at + 1 :]
