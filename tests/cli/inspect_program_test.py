"""sluice inspect --program: the Program of a step, its costs against inspect's own, and the figures and picture in docs/program.md."""

import re
import resource
import shlex
import unittest
import xml.etree.ElementTree

from gguf_file import write_known_gguf
from harness import FAILED, GOLDEN, SOURCE, WRONG_USAGE, CliTest, environment, write_known_model

SHAPE = ("--shape", "qwen3.5-0.8b", "--head", "full")
LAYER_OPS = {"deltanet": ["mix_in", "mix", "mix_out", "mlp_in", "mlp_out"],
             "attention": ["mix_in", "kv_append", "mix", "mix_out", "mlp_in", "mlp_out"]}
COSTS = ("weight_bytes", "state_bytes", "kv_bytes", "bytes", "flops")


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class InspectProgram(CliTest):
    def program(self, *args):
        report = self.good_json("inspect", "--program", "--json", *args)
        self.assertTrue(report["verified"])
        self.assertEqual(report["coarse_waits"], [])
        for total in ("tasks", "waits", *COSTS):
            self.assertEqual(report[total], sum(op[total] for op in report["ops"]), total)
        self.assertLessEqual(report["longest_chain"], report["tasks"])
        return report

    def test_a_decode_step_costs_what_inspect_says(self):
        models = sorted(file.parent for file in GOLDEN.glob("*/config.json"))[:4]
        models.append(write_known_gguf(self.folder / "known.gguf"))
        models.append(write_known_model(self.folder / "model"))
        for model in models:
            with self.subTest(model=model.name):
                inspected = self.good_json("inspect", model, "--json")
                step = inspected["decode_step"]
                report = self.program(model, "-c", step["context"])
                for cost in ("state_bytes", "kv_bytes", "flops"):
                    self.assertEqual(report[cost], step[cost], cost)
                # inspect counts norms and the convolution's taps, too: less than a row of tokens each.
                self.assertLess(report["weight_bytes"], step["weight_bytes"])
                self.assertGreater(report["weight_bytes"], 0.8 * step["weight_bytes"])
                ops = [(op.get("layer"), op["op"]) for op in report["ops"] if op["op"] != "mix_merge"]
                layers = inspected["config"]["layers"]
                expected = [(i, op) for i, kind in enumerate(layers) for op in LAYER_OPS[kind]]
                self.assertEqual(ops, [(None, "embed"), *expected, (None, "head"), (None, "sample")])

    def test_the_smallest_published_model(self):
        begin = cpu_seconds()
        report = self.program(*SHAPE, "-c", 1000)
        self.assertLess(cpu_seconds() - begin, 5)  # seconds, with sanitizers; 0.05 without
        inner, hidden, vocab = 3584, 1024, 248320
        heads = [op for op in report["ops"] if op["op"] == "head"]
        self.assertEqual([(op["weight_bytes"], op["flops"]) for op in heads], [(2 * hidden * vocab,) * 2])
        for op in report["ops"]:
            if op["op"] in ("mlp_in", "mlp_out"):
                matrices = 2 if op["op"] == "mlp_in" else 1
                self.assertEqual(op["weight_bytes"], 2 * matrices * inner * hidden)

    def test_a_screened_head(self):
        """A large vocabulary's head is screened for few rows: half the bytes, four ops for one."""
        shape = SHAPE[:2]
        full = self.program(*SHAPE, "-t", 2)
        screened = self.program(*shape, "-t", 2)
        self.assertEqual(screened, self.program(*shape, "-t", 2, "--head", "screened"))
        self.assertEqual([op["op"] for op in full["ops"][-2:]], ["head", "sample"])
        self.assertEqual([op["op"] for op in screened["ops"][-5:]], ["skim", "screen", "select", "recompute", "sample"])
        hidden, vocab = 1024, 248320
        self.assertEqual(full["weight_bytes"] - screened["weight_bytes"], 2 * hidden * vocab - (hidden + 8) * vocab)
        self.assertEqual(screened["flops"], full["flops"])
        self.assertEqual(screened["longest_chain"], full["longest_chain"] + 3)
        # Many rows share the full head's bytes; a small head isn't worth it.
        self.assertEqual(self.program(*shape, "--rows", 9)["ops"][-2]["op"], "head")
        self.assertEqual(self.program(GOLDEN / "tiny")["ops"][-2]["op"], "head")
        self.assertEqual(self.program(GOLDEN / "tiny", "--head", "screened")["ops"][-4]["op"], "screen")

    def test_rows_and_prompts(self):
        one = self.program(*SHAPE, "-c", 100)
        four = self.program(*SHAPE, "-c", 100, "--rows", 4)
        fed = self.program(*SHAPE, "--prompt", 300)
        both = self.program(*SHAPE, "-c", 3000, "--rows", 2, "--prompt", 300)
        self.assertEqual(one["step"] | {"workers": 0}, {"decode_rows": 1, "prompt_rows": 0, "lengths": [100], "workers": 0})
        self.assertEqual(fed["step"]["lengths"], [300])
        self.assertEqual(both["step"]["lengths"], [3000, 3000, 3000])
        self.assertEqual(four["flops"], 4 * one["flops"])
        self.assertEqual(four["kv_bytes"], 4 * one["kv_bytes"])
        # Of the prompt, only the last row meets the head; weights pass once.
        self.assertEqual(fed["weight_bytes"] - 2 * 1024 * 300, one["weight_bytes"] - 2 * 1024)
        self.assertEqual([op["flops"] for op in fed["ops"] if op["op"] == "head"], [2 * 1024 * 248320])
        merges = [op["op"] for op in both["ops"]].count("mix_merge")
        self.assertEqual(merges, 6)  # attention over 3,000 positions is split
        self.assertEqual([op["op"] for op in one["ops"]].count("mix_merge"), 0)

    def test_it_is_the_program_that_runs(self):
        bench = self.good_json("bench", "--rows", "3", "-p", 20, "-n", 2, "--reps", 1, "-t", 2, "--json")
        tasks = {(result["kind"], result["rows"]): result["tasks_per_step"] for result in bench["results"]}
        self.assertEqual(tasks["decode", 3], self.program("--rows", 3, "-c", 5, "-t", 2)["tasks"])
        self.assertEqual(tasks["prefill", 20], self.program("--prompt", 20, "-t", 2)["tasks"])

    def test_more_workers_have_more_tasks(self):
        self.assertLess(self.program("-t", 1)["tasks"], self.program("-t", 8)["tasks"])

    def test_every_program_is_proven_on_demand(self):
        args = ("logits", GOLDEN / "tiny", "--tokens", "1,2,3,4,5", "--split", "3,1,1", "-v", "--device", "cpu")
        said = {}
        for value in (None, "0", "1"):
            out = self.folder / "logits.npy"
            result = self.sluice(*args, "-o", out, env=environment(SLUICE_VERIFY=value))
            self.assertEqual(result.returncode, 0, result.stderr)
            said[value] = (b"Programs verified" in result.stderr, out.read_bytes())
        self.assertEqual([verified for verified, _ in said.values()], [False, False, True])
        self.assertEqual(len({logits for _, logits in said.values()}), 1)
        for value in ("yes", "2", "1 "):
            self.fails(FAILED, *args, "-o", self.folder / "none.npy", env=environment(SLUICE_VERIFY=value), says="(SLUICE_VERIFY): use 1 or 0")
        self.assertFalse((self.folder / "none.npy").exists())

    def test_the_text_says_the_same(self):
        report = self.program(*SHAPE, "-t", 2)
        text = self.good("inspect", "--program", *SHAPE, "-t", 2).decode()
        self.assertIn("1 row at context 4096, on 2 workers", text)
        together = next(line for line in text.splitlines() if line.startswith("together"))
        self.assertEqual([int(word) for word in together.split()[1:]],
                         [report[key] for key in ("tasks", "counters", "waits", "weight_bytes", "state_bytes", "kv_bytes", "flops")])
        self.assertIn(f"longest chain {report['longest_chain']} tasks", text)
        self.assertIn("coarser than the data asks: 0", text)

    def test_the_graph(self):
        dot = self.good("inspect", "--program", "--dot", *SHAPE, "-t", 2).decode()
        self.assertTrue(dot.startswith("digraph program {\n") and dot.endswith("}\n"))
        nodes = set(re.findall(r"^    (op\d+) \[label", dot, re.MULTILINE))
        arrows = re.findall(r"^  (op\d+) -> (op\d+) \[", dot, re.MULTILINE)
        self.assertEqual({end for arrow in arrows for end in arrow}, nodes)  # nothing stands alone
        for title in ("layer 0: DeltaNet", "layer 3: attention"):
            self.assertIn(f'label="{title}"', dot)
        for file in sorted(GOLDEN.glob("*/config.json")):
            self.good("inspect", file.parent, "--program", "--dot")

    def test_the_page_is_what_the_program_prints(self):
        page = (SOURCE / "docs" / "program.md").read_text()
        blocks = re.findall(r"```console\n\$ sluice ([^\n]*)\n(.*?)```", page, re.DOTALL)
        self.assertGreater(len(blocks), 0)
        for command, output in blocks:
            self.assertEqual(self.good(*shlex.split(command)).decode(), output, command)
        command, = re.findall(r"`sluice ([^`>]*) > docs/program.dot`", page)
        dot = self.good(*shlex.split(command)).decode()
        self.assertEqual(dot, (SOURCE / "docs" / "program.dot").read_text())
        # The picture is of that graph: the same boxes, arrows and words.
        svg = xml.etree.ElementTree.parse(SOURCE / "docs" / "program.svg").getroot()
        words = [text.text.strip() for text in svg.iter("{http://www.w3.org/2000/svg}text")]
        labels = [line.strip() for label in re.findall(r'label="([^"]*)"', dot) for line in label.split("\\n")]
        self.assertEqual(sorted(words), sorted(label for label in labels if label))
        titles = [title.text for title in svg.iter("{http://www.w3.org/2000/svg}title")]
        for arrow in re.findall(r"^  (op\d+) -> (op\d+) \[", dot, re.MULTILINE):
            self.assertIn("->".join(arrow), titles)

    def test_no_tokenizer_is_needed(self):
        model = write_known_model(self.folder / "model")
        (model / "tokenizer.json").write_text("{")
        self.program(model)

    def test_what_can_not_be(self):
        self.assertIn(b"--program", self.good("inspect", "--help"))
        for args in (("--dot",), ("--rows", 2), ("--prompt", 2), SHAPE):
            self.fails(WRONG_USAGE, "inspect", *args, says="--program")
        for args in (("--rows", 0), ("--rows", 65), ("--prompt", 5000), ("--prompt", 9, "-c", 8), ("--json", "--dot"),
                     ("--tensor", "x"), ("--shape", "llama"), (GOLDEN, *SHAPE), ("-c", 1 << 40)):
            self.fails(WRONG_USAGE, "inspect", "--program", *args)
        self.fails(FAILED, "inspect", "--program", "--device", "oracle", says="runs no Program")


if __name__ == "__main__":
    unittest.main()
