"""Malformed lists of token ids and conversations; files that can't be what they are given as."""

import os
import unittest

from formats import safetensors_bytes, tiny_config, tiny_tensors
from harness import WRONG_USAGE, byte_tokenizer
from json_cases import broken_documents, cut_documents, doubled_keys, text, without_marks
from judge import INSPECT, RUN, TOKENIZE, Case, MalformedTest

CONFIG = tiny_config(max_position_embeddings=4096)
FOLDER = {"config.json": text(CONFIG), "tokenizer.json": text(byte_tokenizer()),
          "model.safetensors": safetensors_bytes(tiny_tensors(CONFIG))}
IDS = ("logits", "{model}", "--tokens", "@{folder}/ids", "-o", "{folder}/out.npy")
CHAT = ("run", "{model}", "--seed", "1", "-n", "1", "--messages", "{folder}/chat.json")

BAD_IDS = (b"", b" \n", b"[]", b",", b"1,,2", b"1 2 x", b"x", b"1.5", b"1e3", b"0x10", b"-1", b"1,-1", b"272", b"1,2,272", b"999999",
           b"2147483648", b"4294967296", b"4294967297", b"18446744073709551615", b"18446744073709551616", b"9" * 400, b"-" * 50,
           b"1-2", b"[1, 2", b"1, 2]", b"[[1]]", b"{1}", b"null", b"\"1\"", b"1\0", b"\0", b"\xff\xfe", "1,２".encode(), b"1;2",
           b"+1 +", b"1 2 3 " * 1000 + b"x", b"1 " * 100_000, b"--1", b"NaN", b"1,2,\xc3")


def message(role, content, **rest):
    return {"role": role, "content": content, **rest}


def call(**function):
    return [message("user", "a"), message("assistant", "", tool_calls=[{"function": function}])]


CONVERSATION = {"messages": [message("system", "s"), message("user", "hi"), message("assistant", "ho"), message("user", "x")],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
BAD_MESSAGES = (
    [], [5], [None], [[]], ["x"], [{}], [{"role": "user"}], [{"content": "x"}], [message("user", 5)], [message("user", True)],
    [message("user", {})], [message("user", [5])], [message("user", [None])], [message("user", [{}])],
    [message("user", [{"type": "image", "image": "x"}])], [message("user", [{"type": "image_url", "image_url": {"url": "x"}}])],
    [message("user", [{"type": "video", "video": "x"}])], [message("user", [{"type": "text"}])],
    [message("user", [{"type": "text", "text": 5}])],
    [message("", "x")], [message("User", "x")], [message("robot", "x")], [message(5, "x")], [message(None, "x")],
    [message("system", "x")], [message("assistant", "x")], [message("user", "x"), message("system", "y")],
    [message("tool", "x"), message("user", "y")], [message("user", "x"), message("assistant", "y", tool_calls=5)],
    [message("user", "x"), message("assistant", "y", tool_calls=[5])],
    [message("user", "x"), message("assistant", "y", tool_calls=[{}])], call(), call(name=5, arguments={}),
    call(name="f", arguments=5), call(name="f", arguments="{"), call(name="f", arguments="5"), call(name="f", arguments="[1]"),
    call(name="f", arguments=[1]), call(name=None, arguments={}), [message("user", "x"), message("assistant", "y",
                                                                                             reasoning_content=5)])
BAD_REQUESTS = ({}, {"messages": None}, {"messages": 5}, {"messages": {}}, {"messages": []}, {"messages": "x"}, {"tools": []},
                {"tools": 5}, {"tools": "x"}, {"tools": {}}, {"tools": [5]}, {"chat_template_kwargs": 5},
                {"chat_template_kwargs": {"enable_thinking": "x"}}, {"chat_template_kwargs": {"enable_thinking": 1}},
                {"chat_template_kwargs": []})


def ids(name, data):
    return Case("ids: " + name, FOLDER | {"ids": data}, IDS, ("ids", "--tokens"))


def chat(name, document):
    data = document if isinstance(document, bytes) else text(document)
    return Case("chat: " + name, FOLDER | {"chat.json": data}, CHAT, ("chat.json", "messages", "tools", "chat_template_kwargs"))


def conversations(rng):
    for wrong in BAD_MESSAGES:
        yield chat(f"{wrong!r}"[:200], wrong)
    for wrong in BAD_REQUESTS:
        request = wrong if not wrong or "messages" in wrong else {"messages": [message("user", "x")]} | wrong
        if request != {"messages": [message("user", "x")], "tools": []}:
            yield chat(f"{request!r}"[:200], request)
    for documents in (broken_documents(CONVERSATION), doubled_keys(CONVERSATION), cut_documents(CONVERSATION, rng, 20),
                      without_marks(CONVERSATION, rng, 20)):
        for name, document in documents:
            yield chat(name, document)
    yield chat("a million values", b'[{"role": "user", "content": [' + b"1," * 1_000_000 + b"1]}]")


class Lists(MalformedTest):
    def test_sound_ones(self):
        self.accept([ids("sound", b"1, 2\n3"), ids("in brackets", b"[1,2]\n"), chat("sound", CONVERSATION),
                     chat("messages alone", CONVERSATION["messages"])])

    def test_ids(self):
        self.refuse(ids(repr(data[:40]), data) for data in BAD_IDS)

    def test_ids_on_the_command_line(self):
        def case(argument, code):
            return Case(f"ids: {argument[:40]!r}", FOLDER, ("logits", "{model}", "--tokens", argument, "-o", "{folder}/out.npy"),
                        ("--tokens", argument), code=code)
        self.refuse([case(argument, WRONG_USAGE) for argument in ("", "x", "1,,2", "1.5", "@", "[1")
                     if argument != "@"] + [case(argument, 1) for argument in ("272", "-1", "99999999999999999999", "1,272")])

    def test_conversations(self):
        self.refuse(conversations(self.rng))

    def test_ids_to_decode(self):
        self.refuse(Case(f"decode {data[:40]!r}", FOLDER | {"ids": data}, ("tokenize", "{model}", "--decode", "-f", "{folder}/ids"),
                         ("ids", "--decode", "token "))
                    for data in (b"x", b"-1", b"261", b"271", b"272", b"2147483648", b"1,,2", b"[1", b"1.5", b"9" * 300))

    def test_no_files(self):
        missing = [Case(f"{command[0]} an empty folder", {}, command, ("config.json", "tokenizer.json"))
                   for command in (INSPECT, RUN, TOKENIZE)]
        for special in ("/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "/etc/passwd"):
            if os.path.exists(special):
                missing.append(Case(f"MODEL {special}", {}, ("inspect", special), (special,)))
                missing.append(Case(f"ids in {special}", FOLDER, ("logits", "{model}", "--tokens", "@" + special, "-o",
                                                                  "{folder}/out.npy"), (special,),
                                    more_bytes=64 << 20))  # it stops reading there
        missing.append(Case("a full disk", FOLDER, ("logits", "{model}", "--tokens", "1,2", "-o", "/dev/full"), ("/dev/full",)))
        missing.append(Case("no folder for the output", FOLDER, ("logits", "{model}", "--tokens", "1,2", "-o", "{folder}/no/out.npy"),
                            ("out.npy",)))
        self.refuse(missing)


if __name__ == "__main__":
    unittest.main()
