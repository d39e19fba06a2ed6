"""Ctrl-C and its like: exit code 130, soon, wherever the program is; and nothing stays behind."""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import unittest

from harness import (INTERRUPTED, TIMEOUT, CliTest, cpu_seconds, has_signal, status_of, write_known_model)


class Interrupt(CliTest):
    def setUp(self):
        super().setUp()
        self.model = write_known_model(self.folder / "model")

    def interrupt(self, process, signal_=signal.SIGINT):
        process.send_signal(signal_)
        self.assertEqual(process.wait(TIMEOUT), INTERRUPTED)

    def test_while_a_pipe_is_opened(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for args in (["run", self.model, "-f", pipe, "-n", 3], ["run", self.model, "--messages", pipe],
                     ["tokenize", self.model, "-f", pipe], ["perplexity", self.model, "-f", pipe],
                     ["logits", self.model, "--tokens", f"@{pipe}", "-o", self.folder / "out.npy"],
                     ["logits", self.model, "--tokens", "1,2", "-o", pipe],
                     ["inspect", self.model, "--tensor", "lm_head.weight", "-o", pipe]):
            for signal_ in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                with self.subTest(args=args, signal=signal_):
                    process = self.start(*args, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
                    self.wait_asleep(process)
                    self.interrupt(process, signal_)
                    self.assertEqual(process.communicate(), (b"", b""))
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "pipe"})

    def test_while_text_is_encoded(self):
        text = "".join(f"word{i} \u00e9{i * 7919} " for i in range(2_000_000))[:40_000_000]
        file = self.folder / "text"
        file.write_text(text)
        messages = self.folder / "messages"
        messages.write_text(json.dumps([{"role": "user", "content": text}]))
        for args in (["tokenize", self.model, "-f", file], ["tokenize", self.model, "--messages", messages],
                     ["perplexity", self.model, "-f", file], ["run", self.model, "--seed", 1, "-f", file],
                     ["run", self.model, "--seed", 1, "--raw", "-f", file]):
            with self.subTest(args=args):
                self.interrupt_soon(*args)

    def test_within_a_step(self):
        """A step of a hundred thousand rows."""
        ids = self.folder / "ids"
        ids.write_text(" 97" * 100_000)
        for device in ("cpu", "oracle"):
            with self.subTest(device=device):
                self.interrupt_soon("logits", self.model, "--tokens", f"@{ids}", "--split", 100_000, "-o", self.folder / "out.npy",
                                    "--device", device)
                self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "ids"})

    def test_while_a_program_is_proven(self):
        self.interrupt_soon("inspect", "--program", "--shape", "qwen3.5-0.8b", "--rows", 64, "--prompt", 4096, "--device", "cpu")

    def interrupt_soon(self, *args):
        """A run that would compute for several seconds ends within half a second's computing."""
        process = self.start(*args)
        self.wait_until(process, lambda: cpu_seconds(process.pid) > 0.25)
        begun = cpu_seconds(process.pid)
        process.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(process.pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), INTERRUPTED)
        process.returncode = INTERRUPTED
        self.assertEqual(process.communicate(), (b"", b""))
        self.assertLess(usage.ru_utime + usage.ru_stime - begun, 0.5)

    def test_while_nobody_reads(self):
        """Standard output and standard error, full, in either mode."""
        for blocking in (True, False):
            with self.subTest(blocking=blocking):
                read_end, write_end = small_pipe()
                os.set_blocking(write_end, blocking)
                process = self.start("run", self.model, "--raw", "-p", "a", "-c", 1_000_000, "--seed", 1,
                                     stdout=write_end)
                # It computes, writes, and in the end only waits.
                self.wait_asleep(process)
                self.wait_until(process, lambda: self.is_idle(process))
                self.interrupt(process)
                os.close(read_end)
                os.close(write_end)

                read_end, write_end = small_pipe()
                os.set_blocking(write_end, False)
                fill(write_end)
                os.set_blocking(write_end, blocking)
                process = self.start("run", self.model, "-p", "a", "--seed", 1, "--verbose", stderr=write_end)
                self.wait_asleep(process)
                self.interrupt(process)
                os.close(read_end)
                os.close(write_end)

    def is_idle(self, process):
        before = cpu_seconds(process.pid)
        try:
            process.wait(0.3)
        except subprocess.TimeoutExpired:
            pass
        return cpu_seconds(process.pid) == before

    def test_a_hang_up_leaves_nothing_behind(self):
        ids = self.folder / "ids"
        ids.write_text(" 97" * 100_000)
        for signal_ in (signal.SIGHUP, signal.SIGTERM):
            process = self.start("logits", self.model, "--tokens", f"@{ids}", "-o", self.folder / "out.npy",
                                 preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
            self.wait_until(process, lambda: list(self.folder.glob("out.npy*.part")))
            self.interrupt(process, signal_)
            self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "ids"})

    def test_a_second_one_kills(self):
        process = self.start("run", self.model, "--raw", "-p", "a", "-c", 1_000_000, "--seed", 1, "--trace", self.folder / "trace.json",
                             "--device", "cpu")
        process.stdout.read(1)  # it makes tokens
        self.assertNotEqual(list(self.folder.glob("trace.json*")), [])
        process.send_signal(signal.SIGSTOP)
        self.wait_until(process, lambda: status_of(process.pid)["State"].startswith("T"))
        for signal_ in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT):  # it hears of both at once
            process.send_signal(signal_)
        self.assertIn(process.wait(TIMEOUT), (-signal.SIGINT, -signal.SIGTERM))
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"model"})

    def test_nohup(self):
        process = self.start("run", self.model, stdin=subprocess.PIPE,
                             preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.wait_asleep(process)
        self.assertTrue(has_signal(status_of(process.pid)["SigIgn"], signal.SIGHUP))
        self.interrupt(process)


def small_pipe():
    ends = os.pipe()
    fcntl.fcntl(ends[1], getattr(fcntl, "F_SETPIPE_SZ", 1031), 4096)  # Python 3.10 names it
    return ends


def fill(descriptor):
    for size in (4096, 1):
        try:
            while True:
                os.write(descriptor, b"x" * size)
        except BlockingIOError:
            pass


if __name__ == "__main__":
    unittest.main()
