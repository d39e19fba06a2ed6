"""Where results go: streams that are not ready, files that are there already, files that must not be replaced."""

import fcntl
import os
import shutil
import stat
import unittest

from gguf_file import write_known_gguf, write_split_gguf
from harness import FAILED, GOOD, GOLDEN, TIMEOUT, CliTest, read_npy, write_known_model

F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)  # Python 3.10 names it


class Streams(CliTest):
    def setUp(self):
        super().setUp()
        self.model = write_known_model(self.folder / "model")

    def pipe(self):
        ends = os.pipe()
        fcntl.fcntl(ends[1], F_SETPIPE_SZ, 4096)
        for end in ends:
            os.set_blocking(end, False)
        return ends

    def read_to_end(self, descriptor):
        os.set_blocking(descriptor, True)
        with open(descriptor, "rb") as file:
            return file.read()

    def test_output_that_is_not_ready(self):
        text = self.folder / "text"
        text.write_bytes(os.urandom(100_000))
        want = self.good("tokenize", self.model, "-f", text)
        read_end, write_end = self.pipe()
        process = self.start("tokenize", self.model, "-f", text, stdout=write_end)
        os.close(write_end)
        self.wait_asleep(process)
        self.assertEqual(self.read_to_end(read_end), want)
        self.assertEqual(process.wait(TIMEOUT), GOOD)

    def test_errors_that_are_not_ready(self):
        read_end, write_end = self.pipe()
        filled = 0
        for size in (4096, 1):
            try:
                while True:
                    filled += os.write(write_end, b"x" * size)
            except BlockingIOError:
                pass
        process = self.start("inspect", self.folder / "absent", stderr=write_end)
        os.close(write_end)
        self.wait_asleep(process)
        errors = self.read_to_end(read_end)[filled:]
        self.assertRegex(errors.decode(), r"\Asluice: error: no such MODEL [^\n]*\n\Z")
        self.assertEqual(process.wait(TIMEOUT), FAILED)

    def test_input_that_is_not_ready(self):
        read_end, write_end = self.pipe()
        process = self.start("tokenize", self.model, stdin=read_end)
        os.close(read_end)
        self.wait_asleep(process)
        os.write(write_end, b"ab")
        os.close(write_end)
        self.assertEqual(process.communicate(timeout=TIMEOUT), (b"97 98\n", b""))


class Files(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out.npy"

    def write(self, *args, **options):
        return self.sluice("logits", GOLDEN / "tiny", "--tokens", "1", "-o", self.out, *args, **options)

    def test_permissions_stay(self):
        for mode in (0o600, 0o640, 0o666, 0o755):
            self.out.write_text("old")
            self.out.chmod(mode)
            self.assertEqual(self.write().returncode, GOOD)
            self.assertEqual(stat.S_IMODE(self.out.stat().st_mode), mode)
            self.assertEqual(read_npy(self.out)[0], (1, 13))

    @unittest.skipUnless(os.geteuid() == 0, "only root may write for others")
    def test_the_owner_stays(self):
        self.out.write_text("old")
        self.out.chmod(0o600)
        os.chown(self.out, 12345, 23456)
        self.assertEqual(self.write().returncode, GOOD)
        after = self.out.stat()
        self.assertEqual((after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)), (12345, 23456, 0o600))

    def test_a_file_that_may_not_be_written(self):
        options = self.unprivileged()
        model = write_known_model(self.folder / "model")
        self.out.write_text("old")
        link = self.folder / "link"
        link.symlink_to(self.out)
        self.out.chmod(0o444)
        before = self.out.stat()
        for out in (self.out, link):
            self.fails(FAILED, "logits", model, "--tokens", "1", "-o", out,
                       says=f"can't write: Permission denied ({out}): write to a place", **options)
        self.assertEqual((self.out.stat(), self.out.read_text()), (before, "old"))
        self.assertEqual(list(self.folder.glob("*.part")), [])

    def test_a_loop_of_links(self):
        other = self.folder / "other"
        self.out.symlink_to(other)
        other.symlink_to(self.out)
        for out in (self.out, other):
            self.fails(FAILED, "logits", GOLDEN / "tiny", "--tokens", "1", "-o", out, says=f"symbolic links ({out})")
        self.assertTrue(self.out.is_symlink() and other.is_symlink())
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"out.npy", "other"})


class Inputs(CliTest):
    """A result must not replace what it comes from."""

    REFUSED = "can't write: the result comes from this very file"

    def refuses(self, model, out, tensor, tokens="1", **options):
        before = out.read_bytes()
        with self.subTest(model=model, out=out, tokens=tokens):
            says = f"{self.REFUSED} ({out})"
            self.fails(FAILED, "logits", model, "--tokens", tokens, "-o", out, says=says, **options)
            if not tokens.startswith("@"):
                self.fails(FAILED, "inspect", model, "--tensor", tensor, "-o", out, says=says)
            self.assertEqual(out.read_bytes(), before)

    def test_a_folder(self):
        model = write_known_model(self.folder / "model")
        for file in sorted(model.iterdir()):
            self.refuses(model, file, "lm_head.weight")
        weights = model / "model.safetensors"
        (self.folder / "link").symlink_to(weights)
        os.link(weights, self.folder / "hard_link")
        self.refuses(model, self.folder / "link", "lm_head.weight")
        self.refuses(model, self.folder / "hard_link", "lm_head.weight")
        # The weights in another folder, as in the Hugging Face cache.
        stored = self.folder / "stored"
        weights.rename(stored)
        weights.symlink_to(stored)
        self.refuses(model, stored, "lm_head.weight")
        # Results may lie there, and be replaced by new ones.
        for _ in range(2):
            self.good("logits", model, "--tokens", "1", "-o", model / "out.npy")
            self.good("inspect", model, "--tensor", "lm_head.weight", "-o", model / "out.npy")

    def test_a_gguf_file(self):
        gguf = write_known_gguf(self.folder / "known.gguf")
        self.refuses(gguf, gguf, "output.weight")
        other = self.folder / "other.gguf"
        shutil.copy(gguf, other)
        self.good("logits", gguf, "--tokens", "1", "-o", other)  # of another model
        first, second = write_split_gguf(self.folder / "split", "known")
        for model in (first.parent, first, second):
            for out in (first, second):
                self.refuses(model, out, "output.weight")

    def test_the_list_of_tokens(self):
        ids = self.folder / "ids"
        ids.write_text("1 2 3")
        self.refuses(GOLDEN / "tiny", ids, None, tokens=f"@{ids}")
        with open(ids, "rb") as file:
            result = self.sluice("logits", GOLDEN / "tiny", "--tokens", "@-", "-o", ids, input=None, stdin=file)
        self.assertEqual((result.returncode, ids.read_text()), (FAILED, "1 2 3"), result.stderr)
        self.assertIn(self.REFUSED.encode(), result.stderr)


if __name__ == "__main__":
    unittest.main()
