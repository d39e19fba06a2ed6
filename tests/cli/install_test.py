"""What make install puts somewhere else works there; manual page and completions show every option."""

import os
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import SOURCE, TIMEOUT, CliTest, environment

COMMANDS = ("run", "perplexity", "logits", "tokenize", "inspect", "devices")


class Install(CliTest):
    @classmethod
    def setUpClass(cls):
        import tempfile

        cls.prefix = pathlib.Path(tempfile.mkdtemp(prefix="sluice-prefix-"))
        cls.addClassCleanup(shutil.rmtree, cls.prefix, ignore_errors=True)
        command = [os.environ["CMAKE"], "--install", os.environ["SLUICE_BUILD"], "--prefix", str(cls.prefix)]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT)
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        cls.program = cls.prefix / "bin" / "sluice"
        cls.man = (cls.prefix / "share" / "man" / "man1" / "sluice.1").read_text()
        cls.bash = cls.prefix / "share" / "bash-completion" / "completions" / "sluice"
        cls.zsh = cls.prefix / "share" / "zsh" / "site-functions" / "_sluice"
        cls.fish = cls.prefix / "share" / "fish" / "vendor_completions.d" / "sluice.fish"

    def options(self, command):
        text = self.good(command, "--help", program=self.program).decode()
        names = re.findall(r"^  (-\S+)", text, re.MULTILINE)
        options = [option for group in names for option in group.split(",")]
        self.assertGreater(len(options), 8)
        return options

    def test_the_installed_program_answers(self):
        for cwd in ("/", self.folder):
            self.good("run", "-p", "What is 17 + 25?", "-n", 8, program=self.program, cwd=cwd)
        link = self.folder / "elsewhere"
        link.symlink_to(self.program)
        model = self.good_json("inspect", "--json", program=link, cwd="/")["model"]
        self.assertEqual(pathlib.Path(model), self.prefix.resolve() / "share" / "sluice" / "models" / "demo")

    def test_the_prefix_can_move(self):
        moved = self.folder / "moved"
        shutil.copytree(self.prefix, moved)
        model = self.good_json("inspect", "--json", program=moved / "bin" / "sluice", cwd="/")["model"]
        self.assertEqual(pathlib.Path(model), moved.resolve() / "share" / "sluice" / "models" / "demo")

    def test_no_path_of_this_machine_is_installed(self):
        models = str(SOURCE / "models").encode()
        for path in self.prefix.rglob("*"):
            self.assertFalse(path.is_file() and models in path.read_bytes(), path)

    def test_the_manual_page_shows_every_option(self):
        page = self.man.replace("\\-", "-")
        for command in COMMANDS:
            section = page.split(f".SS sluice {command}\n")[1].split("\n.S")[0]
            for option in self.options(command):
                self.assertIn(f"\\fB{option}\\fR", section, command)

    def test_the_manual_page_is_good_roff(self):
        for checker in (["man", "--warnings", "-l", "-"], ["mandoc", "-T", "lint", "-W", "warning"]):
            if not shutil.which(checker[0]):
                continue
            done = subprocess.run(checker, input=self.man.encode(), capture_output=True, timeout=TIMEOUT,
                                  env=environment(MANWIDTH=80, LC_ALL="C.UTF-8"))
            self.assertEqual(done.stderr, b"")
            if checker[0] == "man":
                self.assertIn(b"SLUICE(1)", done.stdout)

    def test_completions_show_every_option(self):
        bash, zsh, fish = self.bash.read_text(), self.zsh.read_text(), self.fish.read_text()
        for command in COMMANDS:
            words = re.search(rf'^    {command}\) options="([^"]*)"', bash, re.MULTILINE).group(1).split()
            arguments = zsh.split(f"    {command})\n")[1].split(" ;;\n")[0]
            lines = "\n".join(line for line in fish.splitlines() if f"'__fish_seen_subcommand_from {command}'" in line)
            for option in self.options(command):
                self.assertIn(option, words, command)
                self.assertRegex(arguments, rf"[\s{{,(]{option}[\s}},)'\[]", command)
                flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                self.assertRegex(lines, rf"{flag}\s", command)

    def test_shells_that_are_here_accept_their_script(self):
        for shell, script in (("bash", self.bash), ("zsh", self.zsh), ("fish", self.fish)):
            if shutil.which(shell):
                done = subprocess.run([shell, "-n", str(script)], capture_output=True, timeout=TIMEOUT)
                self.assertEqual((done.returncode, done.stderr), (0, b""), shell)

    def complete(self, *words):
        """What bash offers for the last of `words`."""
        script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sluice; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, "bash", str(self.bash), "sluice", *words], capture_output=True,
                              cwd=self.folder, timeout=TIMEOUT)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().split("\n")[:-1]

    def test_bash_completes(self):
        (self.folder / "a folder").mkdir()
        (self.folder / "a file").touch()
        self.assertEqual(self.complete("in"), ["inspect"])
        self.assertEqual(set(self.complete("")) & set(COMMANDS), set(COMMANDS))
        self.assertEqual(self.complete("run", "--thi"), ["--thinking"])
        self.assertEqual(self.complete("run", "--thinking", "o"), ["on", "off"])
        # What was built in: with CUDA's kernels all four.
        self.assertIn(self.complete("run", "--device", ""), (["cpu", "oracle"], ["cpu", "oracle", "cuda", "emulated"]))
        self.assertEqual(self.complete("run", "-f", "a"), ["a file", "a folder"])
        self.assertEqual(self.complete("run", "-p", "a"), [""])
        self.assertEqual(self.complete("logits", "a"), ["a folder"])
        (self.folder / "a model.gguf").touch()
        self.assertEqual(self.complete("logits", "a"), ["a folder", "a model.gguf"])
        self.assertEqual(self.complete("logits", "--stop"), [""])


if __name__ == "__main__":
    unittest.main()
