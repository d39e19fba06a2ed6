"""How many threads compute, and where: affinity masks, -t and --no-pin."""

import os
import pathlib
import re
import unittest

from harness import GOLDEN, CliTest, write_known_model


class Threads(CliTest):
    def workers(self, *args, **options):
        """(number of workers, the logits' bytes)"""
        out = self.folder / "logits.npy"
        result = self.sluice("logits", GOLDEN / "nested_tied", "--tokens", "1,2,3,4,5", "-v", "--device", "cpu", "-o", out, *args,
                             **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return int(re.search(rb"(\d+) workers", result.stderr)[1]), out.read_bytes()

    def test_never_more_than_the_affinity_mask_has(self):
        allowed = os.sched_getaffinity(0)
        one = {min(allowed)}
        n, logits = self.workers("-t", 1)
        self.assertEqual(n, 1)
        for args in ((), ("-t", 3), ("-t", 4096)):
            for options in ({}, {"preexec_fn": lambda: os.sched_setaffinity(0, one)}):
                n, same = self.workers(*args, **options)
                self.assertLessEqual(n, 1 if options else len(allowed), args)
                self.assertEqual(same, logits, args)

    def test_no_pin(self):
        """Every thread may run wherever the process may."""
        model = write_known_model(self.folder / "model")
        process = self.start("run", model, "--raw", "-p", "a", "-c", 1_000_000, "--seed", 1, "--no-pin", "--device", "cpu")
        process.stdout.read(1)  # all threads are there; the pipe will be full, and they stay
        masks = {os.sched_getaffinity(int(thread.name)) == os.sched_getaffinity(0)
                 for thread in pathlib.Path(f"/proc/{process.pid}/task").iterdir()}
        self.assertEqual(masks, {True})


if __name__ == "__main__":
    unittest.main()
