"""sluice run on a model whose every answer is known (harness.py)."""

import fcntl
import json
import math
import os
import pathlib
import pty
import re
import resource
import signal
import struct
import subprocess
import time
import unittest

from harness import (FAILED, GOOD, INTERRUPTED, SLUICE, TIMEOUT, WRONG_USAGE, CliTest, config_json, environment,
                     tensor_shapes, write_known_model, write_safetensors)

STATISTICS = r"prompt (\d+) tokens, first token after [\d.]+ s, generated (\d+) tokens, [\d.]+ tokens/s"
F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python has it from 3.10 on
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


class Run(CliTest):
    def setUp(self):
        super().setUp()
        self.model = write_known_model(self.folder / "model")

    def answer(self, *args, **options):
        return self.good("run", self.model, *args, **options).decode()

    def test_a_chat_prompt(self):
        result = self.sluice("run", self.model, "-p", "Hello?")
        self.assertEqual((result.returncode, result.stdout), (GOOD, b"FINE!\n"))
        self.assertRegex(result.stderr.decode(), rf"\Aseed: \d+\n{STATISTICS}\n\Z")

    def test_sources_of_the_prompt(self):
        path = self.folder / "prompt"
        path.write_text("a")
        want = "bcd\n"
        self.assertEqual(self.answer("--raw", "-n", 3, "-p", "a"), want)
        self.assertEqual(self.answer("--raw", "-n", 3, "-f", path), want)
        self.assertEqual(self.answer("--raw", "-n", 3, "-f", "-", input="a"), want)
        self.assertEqual(self.answer("--raw", "-n", 3, input="a"), want)
        self.assertEqual(self.answer("--raw", "-n", 3, "--", input="a"), want)
        self.assertEqual(self.answer("--raw", "-n", 3, "-p=a"), want)
        self.assertEqual(self.answer("--raw", "-n", 3, "--prompt", "--a"), want)

    def test_prompt_tokens_follow_the_template(self):
        def prompt_tokens(*args):
            return self.good_json("run", self.model, "--json", *args)["prompt_tokens"]

        # One token a byte, one a special token: <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n...
        user = 1 + len("user\n") + len("hi") + 1 + len("\n")
        off = 1 + len("assistant\n") + 1 + len("\n\n") + 1 + len("\n\n")
        on = 1 + len("assistant\n") + 1 + len("\n")
        system = 1 + len("system\n") + len("Be.") + 1 + len("\n")
        self.assertEqual(prompt_tokens("-p", "hi"), user + off)
        self.assertEqual(prompt_tokens("-p", "hi", "--thinking", "off"), user + off)
        self.assertEqual(prompt_tokens("-p", "hi", "--thinking", "on"), user + on)
        self.assertEqual(prompt_tokens("-p", " hi\n", "--system", "Be."), system + user + off)
        self.assertEqual(prompt_tokens("-p", "hi", "--raw"), 2)

    def test_json_is_alone_and_complete(self):
        json_ = self.good_json("run", self.model, "-p", "Hello?", "--json", "--seed", 7)
        self.assertEqual(json_["text"], "FINE!")
        self.assertEqual(json_["stop_reason"], "end_token")
        self.assertEqual(json_["generated_tokens"], 6)
        self.assertEqual(json_["seed"], 7)
        self.assertEqual(json_["device"], "cpu")
        for field in ("seconds_to_first_token", "seconds_decoding", "tokens_per_second"):
            self.assertGreaterEqual(json_[field], 0)

    def test_both_end_tokens_end(self):
        # "0" leads to <|endoftext|>, "\n" to <|im_end|>; config.json names one of them, so take that away, too.
        for eos in (256, 257, 5):
            model = write_known_model(self.folder / f"eos{eos}", eos_token_id=eos)
            self.assertEqual(self.good("run", model, "--raw", "-p", "0").decode(), "é€\n")
            self.assertEqual(self.good("run", model, "-p", "x").decode(), "FINE!\n")

    def test_end_tokens_of_the_files_end(self):
        model = write_known_model(self.folder / "config", eos_token_id=[ord("x"), 250])
        self.assertEqual(self.good("run", model, "--raw", "-p", "t").decode(), "uvw\n")
        model = write_known_model(self.folder / "generation", {"do_sample": False, "eos_token_id": [3, ord("x")]})
        self.assertEqual(self.good("run", model, "--raw", "-p", "t").decode(), "uvw\n")
        model = write_known_model(self.folder / "single", {"do_sample": False, "eos_token_id": ord("x")})
        self.assertEqual(self.good("run", model, "--raw", "-p", "t").decode(), "uvw\n")

    def test_stop_texts(self):
        self.assertEqual(self.answer("--raw", "-p", "a", "--stop", "klm"), "bcdefghij\n")
        self.assertEqual(self.answer("--raw", "-p", "a", "--stop", "zzz", "--stop", "gh", "--stop", "[a,b]"), "bcdef\n")
        json_ = self.good_json("run", self.model, "--raw", "-p", "a", "--stop", "klm", "--json")
        self.assertEqual((json_["text"], json_["stop_reason"]), ("bcdefghij", "stop_text"))

    def test_the_end_of_the_context(self):
        result = self.sluice("run", self.model, "--raw", "-p", "a", "-c", "20")
        self.assertEqual(result.returncode, GOOD)
        self.assertTrue(result.stdout.decode().startswith(ALPHABET[1:19]))
        lines = result.stderr.decode().splitlines()
        self.assertIn("the context of 20 tokens is full", lines[-2])
        self.assertRegex(lines[-1], STATISTICS)
        json_ = self.good_json("run", self.model, "--raw", "-p", "a", "-c", "20", "--json")
        self.assertEqual(json_["stop_reason"], "context")

    def test_a_prompt_that_does_not_fit(self):
        result = self.sluice("run", self.model, "--raw", "-p", "a" * 21, "-c", "20")
        self.assertEqual((result.returncode, result.stdout), (FAILED, b""))
        self.assertRegex(result.stderr.decode(), r"sluice: error: [^\n]+\n\Z")

    def test_the_seed(self):
        def text(*args):
            return self.answer("--raw", "-p", "a", "-n", 40, "--temp", 50, *args)

        self.assertEqual(text("--seed", 1), text("--seed", 1))
        self.assertNotEqual(text("--seed", 1), text("--seed", 2))
        # The seed that is printed gives the same text again.
        result = self.sluice("run", self.model, "--raw", "-p", "a", "-n", 40, "--temp", 50)
        seed = result.stderr.decode().splitlines()[0].removeprefix("seed: ")
        self.assertEqual(text("--seed", seed), result.stdout.decode())
        other = self.sluice("run", self.model, "--raw", "-p", "a", "-n", 40, "--temp", 50)
        self.assertNotEqual(other.stdout, result.stdout)
        self.assertNotIn(b"seed", self.sluice("run", self.model, "-p", "x", "--seed", 1).stderr)

    def settings(self, model, *args):
        """What -v says about sampling, as words."""
        result = self.sluice("run", model, "-p", "x", "-n", 1, "-v", *args)
        self.assertEqual(result.returncode, GOOD, result.stderr)
        return result.stderr.decode()

    def test_sampling_defaults(self):
        by_size = "temperature 1, top-k 20, top-p 1, min-p 0, penalties: presence 2, frequency 0, repeat 1\n"
        thinking = "temperature 1, top-k 20, top-p 0.95, min-p 0, penalties: presence 1.5, frequency 0, repeat 1\n"
        greedy = "temperature 0, top-k 0, top-p 1, min-p 0, penalties: presence 0, frequency 0, repeat 1\n"
        files = (
            (None, by_size), ({}, by_size), ({"eos_token_id": 3}, by_size), ({"do_sample": False}, greedy),
            ({"do_sample": True}, greedy.replace("temperature 0", "temperature 1")),
            ({"do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.25, "min_p": 0.125,
              "repetition_penalty": 1.5},
             "temperature 0.5, top-k 7, top-p 0.25, min-p 0.125, penalties: presence 0, frequency 0, repeat 1.5\n"),
            ({"repetition_penalty": 1.5},
             greedy.replace("temperature 0", "temperature 1").replace("repeat 1", "repeat 1.5")),
            ({"temperature": 0.5, "top_k": None}, greedy.replace("temperature 0", "temperature 0.5")),
        )
        for i, (file, want) in enumerate(files):
            model = write_known_model(self.folder / f"model{i}", file)
            self.assertIn(want, self.settings(model), file)
        self.assertIn(thinking, self.settings(self.folder / "model0", "--thinking", "on"))
        flags = ("--temp", 0.5, "--top-k", 3, "--top-p", 0.75, "--min-p", 0.25, "--presence-penalty", -1,
                 "--frequency-penalty", 0.5, "--repeat-penalty", 1.25)
        want = "temperature 0.5, top-k 3, top-p 0.75, min-p 0.25, penalties: presence -1, frequency 0.5, repeat 1.25\n"
        for i in range(len(files)):
            self.assertIn(want, self.settings(self.folder / f"model{i}", *flags))

    def test_bad_generation_configs(self):
        for file in ([], {"do_sample": 1}, {"temperature": "hot"}, {"temperature": -1}, {"top_k": -1},
                     {"top_k": 1.5}, {"top_p": 2}, {"min_p": -0.5}, {"repetition_penalty": 0},
                     {"eos_token_id": -1}, {"eos_token_id": [1, "x"]}, {"eos_token_id": 1 << 40}):
            model = write_known_model(self.folder / "bad", file)
            self.fails(FAILED, "run", model, "-p", "x", "--seed", 1, says="generation_config.json")
        (model / "generation_config.json").write_text("{")
        self.fails(FAILED, "run", model, "-p", "x", "--seed", 1, says="generation_config.json")

    def test_penalties_reach_the_model(self):
        # A huge penalty on what was there already: the alphabet can't come round a second time.
        text = self.answer("--raw", "-p", "a", "-n", 60, "--presence-penalty", 100)
        self.assertTrue(text.startswith(ALPHABET[1:]))
        self.assertNotIn("zab", text[26:])
        self.assertIn("zab", self.answer("--raw", "-p", "a", "-n", 60))

    def test_control_tags_in_text_are_printed_and_specials_are_not(self):
        ids = self.good("tokenize", self.model, "-p", "<think>a</think><|im_end|>").decode()
        self.assertEqual(ids, "259 97 260 256\n")

    def test_prompt_in_the_place_of_the_model(self):
        self.fails(WRONG_USAGE, "run", "What is 17 + 25?", says="-p")

    def test_a_reader_that_goes_away(self):
        process = subprocess.Popen([SLUICE, "run", str(self.model), "--raw", "-p", "a", "-c", "1000000", "--seed", "1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                   env=environment())
        self.assertEqual(process.stdout.read(5), b"bcdef")
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        self.assertEqual((process.wait(TIMEOUT), errors), (GOOD, b""))
        command = f"'{SLUICE}' run '{self.model}' --raw -p a -c 1000000 --seed 1 | head -c 3"
        result = subprocess.run(["sh", "-c", command], capture_output=True, env=environment(), timeout=TIMEOUT)
        self.assertEqual((result.stdout, result.stderr), (b"bcd", b""))

    def start_endless(self, *args):
        return subprocess.Popen([SLUICE, "run", str(self.model), "--raw", "-p", "a", "-c", "1000000", "--seed", "1",
                                 *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                env=environment())

    def test_interrupted(self):
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            process = self.start_endless()
            # It streams. Unbuffered: `communicate` doesn't see what Python's own buffer holds.
            begin = b"".join(os.read(process.stdout.fileno(), 1) for _ in range(10))
            process.send_signal(signal_)
            rest, errors = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, INTERRUPTED)
            text = (begin + rest).decode()
            self.assertTrue(text.endswith("\n"))
            expected = (ALPHABET * (len(text) // 26 + 1))[1 : len(text)]
            self.assertEqual(text[:-1], expected)
            self.assertRegex(errors.decode(), rf"\A{STATISTICS}\n\Z")

    def test_interrupted_with_json(self):
        process = self.start_endless("--json")
        try:
            process.wait(0.5)  # there is nothing to see that it has begun
        except subprocess.TimeoutExpired:
            pass
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, INTERRUPTED)
        self.assertEqual(json.loads(text)["stop_reason"], "interrupted")

    def test_interrupted_while_nobody_reads(self):
        process = self.start_endless()
        fcntl.fcntl(process.stdout, F_SETPIPE_SZ, 4096)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(3)  # the pipe is full by now
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT), INTERRUPTED)
        process.communicate()

    def test_interrupted_while_reading_the_prompt(self):
        process = subprocess.Popen([SLUICE, "run", str(self.model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=environment())
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT), INTERRUPTED)
        self.assertEqual(process.communicate(), (b"", b""))

    def test_interrupted_in_the_prompt(self):
        """Ctrl-C is heard after the row that is computed, not at the end of the prompt."""
        prompt = self.folder / "prompt"
        prompt.write_text("a" * 500_000)
        process = subprocess.Popen([SLUICE, "run", str(self.model), "--raw", "-f", str(prompt), "-c", "1000000",
                                    "--seed", "1", "--verbose"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, env=environment())
        os.read(process.stderr.fileno(), 1)  # --verbose speaks before the first row
        process.send_signal(signal.SIGINT)
        text, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, text), (INTERRUPTED, b"\n"))
        self.assertTrue(errors.endswith(b"prompt 500000 tokens, no token generated\n"), errors)

    def test_unreadable_optional_files(self):
        """A file that may be left out but is there must be readable."""
        for name in ("generation_config.json", "chat_template.jinja"):
            (self.model / name).unlink(missing_ok=True)
            (self.model / name).symlink_to(name)
            self.fails(FAILED, "run", self.model, "-p", "x", "--seed", 1, says=f"({self.model / name}): ")
            (self.model / name).unlink()

    def test_a_terminal_without_prompt_and_colours(self):
        leader, follower = pty.openpty()
        try:
            result = subprocess.run([SLUICE, "run", str(self.model)], stdin=follower, capture_output=True,
                                    env=environment(), timeout=TIMEOUT)
            self.assertEqual(result.returncode, WRONG_USAGE)
            self.assertIn(b"-p TEXT", result.stderr)
            for no_colour, coloured in ((None, True), ("1", False)):
                result = subprocess.run([SLUICE, "run", str(self.model), "-p", "x"], stdin=follower,
                                        stdout=subprocess.PIPE, stderr=follower, timeout=TIMEOUT,
                                        env=environment(NO_COLOR=no_colour, TERM="xterm"))
                self.assertEqual((result.returncode, result.stdout), (GOOD, b"FINE!\n"))
                errors = b""
                while b"tokens/s" not in errors:  # a terminal gives what it has so far
                    errors += os.read(leader, 65536)
                self.assertEqual(b"\x1b[" in errors, coloured)
        finally:
            os.close(leader)
            os.close(follower)

    def test_arbitrary_bytes_as_prompt(self):
        for prompt in (b"\xff\xfe", b"a\0b", b"\xf0\x9f", bytes(range(256))):
            self.assertEqual(self.answer(input=prompt), "FINE!\n")

    def test_a_prompt_file_that_cannot_be_read(self):
        self.fails(FAILED, "run", self.model, "-f", self.folder / "absent", says="absent")
        self.fails(FAILED, "run", self.model, "-f", self.folder, says=str(self.folder))

    def test_a_prompt_is_measured_before_the_weights_are_read(self):
        (self.model / "model.safetensors").write_bytes(b"")
        self.fails(FAILED, "run", self.model, "--raw", "-p", "a" * 21, "-c", "20",
                   says="the prompt has 21 tokens, the context holds 20 (prompt): shorten it, or give a larger context")
        model = write_known_model(self.folder / "short", max_position_embeddings=20)
        self.fails(FAILED, "run", model, "--raw", "-p", "a" * 21, says="made for no larger context")
        json_ = self.good_json("run", model, "--raw", "-p", "a" * 20, "--json")  # it just fits
        self.assertEqual((json_["text"], json_["stop_reason"]), ("b", "context"))

    def write_messages(self, value):
        path = self.folder / "messages.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    def test_a_conversation(self):
        hello = [{"role": "user", "content": "hi"}]
        path = self.write_messages(hello)
        self.assertEqual(self.answer("--messages", path), "FINE!\n")
        self.assertEqual(self.answer("--messages", "-", input=json.dumps(hello)), "FINE!\n")

        def ids(*args, **options):
            return self.good("tokenize", self.model, *args, **options).decode().split()

        as_text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n"
        off = as_text + "\n</think>\n\n"
        self.assertEqual(ids("--messages", path), ids("-p", off))
        self.assertEqual(ids("--messages", path, "--thinking", "on"), ids("-p", as_text))
        self.assertEqual(ids("--messages", path, "--thinking", "off"), ids("-p", off))
        self.assertEqual(ids("--messages", "-", input=json.dumps(hello)), ids("-p", off))
        count = self.good_json("run", self.model, "--messages", path, "--json")["prompt_tokens"]
        self.assertEqual(count, len(ids("-p", off)))
        # What the conversation asks for, unless a flag says otherwise.
        asks = self.write_messages({"messages": hello, "chat_template_kwargs": {"enable_thinking": True}})
        self.assertEqual(ids("--messages", asks), ids("-p", as_text))
        self.assertEqual(ids("--messages", asks, "--thinking", "off"), ids("-p", off))

    def test_bad_conversations(self):
        for value in ("", "{", "[]", "{}", [{"role": "user"}], [{"role": "ghost", "content": "x"}], [1],
                      [{"role": "system", "content": "x"}], "\0", "[" * 100_000):
            path = self.write_messages(value)
            for command in ("run", "tokenize"):
                self.fails(FAILED, command, self.model, "--messages", path)
        self.fails(FAILED, "run", self.model, "--messages", self.folder / "absent", says="absent")
        self.fails(FAILED, "run", self.model, "--messages", "-", input="{", says="standard input")

    def test_another_template_is_told(self):
        def warnings(*args):
            result = self.sluice("run", self.model, "--seed", 1, *args)
            self.assertEqual(result.returncode, GOOD)
            return [line for line in result.stderr.decode().splitlines() if line.startswith("sluice: warning: ")]

        self.assertEqual(warnings("-p", "x"), [])
        (self.model / "chat_template.jinja").write_text("{{ messages }}")
        self.assertEqual(len(warnings("-p", "x")), 1)
        self.assertIn(str(self.model), warnings("-p", "x")[0])
        self.assertEqual(warnings("-p", "x", "--raw"), [])
        path = self.write_messages([{"role": "user", "content": "hi"}])
        self.assertEqual(len(warnings("--messages", path)), 1)
        self.assertIn(b"sluice: warning: ", self.sluice("tokenize", self.model, "--messages", path).stderr)

    def test_another_template_is_no_second_line_beside_an_error(self):
        (self.model / "chat_template.jinja").write_text("{{ messages }}")
        path = self.write_messages([{"role": "system", "content": "x"}])
        for command in ("run", "tokenize"):
            self.fails(FAILED, command, self.model, "--messages", path, says="no user message")
        with open(self.model / "model.safetensors", "r+b") as file:
            (header,) = struct.unpack("<Q", file.read(8))
            file.seek(8 + header)
            file.write(b"\x80\x7f")  # infinity
        self.fails(FAILED, "run", self.model, "-p", "x", says="embed_tokens.weight has a value that is infinite")

    def test_thinking_by_size_where_the_template_does_not_tell(self):
        path = self.write_messages([{"role": "user", "content": "hi"}])
        think = "259"
        (self.model / "chat_template.jinja").unlink()
        # The smallest vocabulary by which the count of docs/models.md section 1 reaches 3e9 parameters.
        hidden = 272
        shapes = tensor_shapes(config_json(tie_word_embeddings=True))
        rest = sum(math.prod(shape) for name, (_, shape) in shapes.items() if "embed" not in name)
        for tied, tables in ((True, 1), (False, 2)):
            limit = -(-(3 * 10**9 - rest) // (hidden * tables))
            for vocab, last in ((limit - 1, "271"), (limit, "198")):
                config = config_json(vocab_size=vocab, tie_word_embeddings=tied)
                (self.model / "config.json").write_text(json.dumps(config))
                ids = self.good("tokenize", self.model, "--messages", path).decode().split()
                self.assertEqual(ids[-1] == "10" and ids[-2] == think, last == "198", (tied, vocab))

    def test_tensors_that_nobody_knows_are_told(self):
        def warned(extra, **changes):
            config = config_json(**changes)
            tensors = {name: (*tensor, None) for name, tensor in (tensor_shapes(config) | extra).items()}
            write_safetensors(self.model / "model.safetensors", tensors)
            (self.model / "config.json").write_text(json.dumps(config))
            result = self.sluice("logits", self.model, "--tokens", "1", "-o", self.folder / "out.npy")
            self.assertEqual(result.returncode, GOOD, result.stderr)
            return result.stderr.decode()

        one = ("BF16", [1])
        self.assertEqual(warned({"model.visual.x": one, "mtp.fc.weight": one}), "")
        text = warned({"model.layers.0.self_attn.q_proj.bias": one, "model.layers.1.new.weight": one})
        self.assertRegex(text, r"\Asluice: warning: 2 of the checkpoint's tensors are not used, the first "
                               r"model\.layers\.0\.self_attn\.q_proj\.bias: [^\n]+\n\Z")
        self.assertIn("1 of the checkpoint's tensors is not used, x: ", warned({"x": one}))

    def test_endless_input_is_refused_soon(self):
        begun = time.monotonic()
        self.fails(FAILED, "run", self.model, "-f", "/dev/zero", says="too long (/dev/zero)")
        self.assertLess(time.monotonic() - begun, 10)  # with sanitizers, on a busy machine

    def test_limits_of_this_process(self):
        """RLIMIT_DATA counts what is reserved. The context that is advised fits, the next larger doesn't."""
        if re.search(rb"__[at]san_init", pathlib.Path(SLUICE).read_bytes()):
            return  # sanitizers reserve more than any limit allows
        # 2^16 KV heads of 8: 4 MiB a position in fp32.
        config = config_json(num_attention_heads=1 << 16, num_key_value_heads=1 << 16)
        (self.model / "config.json").write_text(json.dumps(config))
        limit = 1 << 30

        def errors(context, resource_=resource.RLIMIT_DATA):
            result = self.sluice("run", self.model, "-p", "x", "-c", context, "--device", "oracle",
                                 preexec_fn=lambda: resource.setrlimit(resource_, (limit, limit)))
            self.assertEqual(result.returncode, FAILED)
            return result.stderr.decode()

        advice = re.search(r"needs [\d.]+ GB, 1\.\d+ GB free \(limit on data, ulimit -d\): use -c (\d+) or less", errors(512))
        self.assertIsNotNone(advice, errors(512))
        fits = int(advice[1])
        self.assertIn(fits, range(32, 257))
        self.assertNotIn("needs ", errors(fits))  # it fails later, on the weights
        self.assertIn(f"use -c {fits} or less", errors(fits + 1))
        self.assertIn("ulimit -v", errors(512, resource.RLIMIT_AS))

    def test_texts_that_do_not_fit_into_memory(self):
        if re.search(rb"__[at]san_init", pathlib.Path(SLUICE).read_bytes()):
            return  # sanitizers reserve more than any limit allows
        text = self.folder / "text"
        for size, limit in ((45 << 20, 100 << 20), (12 << 20, 150 << 20)):  # reading it, and one word of so many bytes
            text.write_bytes("字".encode() * (size // 3))
            for command in (("run", self.model, "--raw"), ("perplexity", self.model, "-c", 8, "-n", 1), ("tokenize", self.model)):
                result = self.sluice(*command, "-f", text,
                                     preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
                self.assertEqual(result.returncode, FAILED)
                self.assertRegex(result.stderr.decode(), r"\Asluice: error: needs [^\n]+ free \(limit on data, ulimit -d\): "
                                                         r"[^\n]*shorter text\n\Z")

    def test_memory_is_checked_first(self):
        # One attention layer of 2^20 KV heads x 8: 64 MiB a token in fp32 for keys and values, too much for 2^20 of them.
        changes = {"num_attention_heads": 1 << 20, "num_key_value_heads": 1 << 20}
        (self.model / "config.json").write_text(json.dumps(config_json(**changes)))
        (self.model / "model.safetensors").unlink()  # before loading
        self.fails(FAILED, "run", self.model, "-p", "x", "-c", 1 << 20, says="needs ")
        changes = {"num_attention_heads": 1 << 24, "num_key_value_heads": 1 << 24, "head_dim": 1 << 6}
        (self.model / "config.json").write_text(json.dumps(config_json(**changes)))
        self.fails(FAILED, "run", self.model, "-p", "x", "-c", 1 << 20)


if __name__ == "__main__":
    unittest.main()
