"""bench/compare.py with programs of our own in the place of those that it times: what it runs and in which order, and that its
tables, its JSON and its picture say what those programs said. Usage: compare_test.py SOURCE_ROOT"""

import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

SOURCE = pathlib.Path(sys.argv.pop(1)).resolve()
sys.path.insert(0, str(SOURCE / "bench"))
from comparing.report import FULL_HEAD, OURS, Measured, targets  # noqa: E402

# Answers as `sluice bench --json` does. A round's rates come from the file `rates`: a line for each run, in order.
SLUICE = """
if "--version" in args:
    print("sluice 9.9 (commit abc)\\nisa: x")
elif "--help" in args:
    print("--head full|screened")
else:
    full = "full" in args
    rate = next_rate("full" if full else "ours")
    probe = {"read_gb_s": 40.0, "variant": "loads", "matrix_tflops": {"bf16": 0.5, "fp32": 0.25, "int8": 1.0}}
    result = {"kind": "decode", "rows": 1, "head": "full" if full else "screened", "reps": [rate / 1.25, rate / 0.75],
              "floor_tok_s": 25.0 if full else 30.0, "op_share": {"wait": 0.1}}
    if not full:
        result["full_head_floor_tok_s"] = 25.0
    print("packing", file=sys.stderr)
    print(json.dumps({"machine": {"isa": "x"}, "probe": probe, "results": [result]}))
"""
LLAMA = """
rate = next_rate(NAME)
print("talks before its JSON")
print(json.dumps([{"build_commit": "c0ffee", "build_number": 7, "n_prompt": 0, "avg_ts": rate}], indent=1))
print("and behind it")
"""
PROGRAM = """#!{python}
import json, pathlib, sys
args, folder = sys.argv[1:], pathlib.Path({folder!r})
NAME = {name!r}
def next_rate(name):
    with open(folder / "order", "a") as order:
        print(name, *args, file=order)
    rates = json.loads((folder / "rates").read_text())
    rate = rates[name].pop(0)
    (folder / "rates").write_text(json.dumps(rates))
    if rate is None:
        print("error: out of luck", file=sys.stderr)
        sys.exit(3)
    return rate
{code}"""


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-compare-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.sluice = self.program("ours", SLUICE, "sluice")
        self.llama = self.program("llama", LLAMA, "llama/llama-bench")
        self.ik = self.program("ik", LLAMA, "ik/llama-bench")
        self.ik.with_name("version.txt").write_text("ik of today\n")
        (self.folder / "models" / "0.8b-1").mkdir(parents=True)
        (self.folder / "models" / "0.8b-1" / "made").touch()  # so none is made

    def program(self, name, code, file):
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(PROGRAM.format(python=sys.executable, folder=str(self.folder), name=name, code=code))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def compare(self, rates, *more, expect=0):
        (self.folder / "rates").write_text(json.dumps(rates))
        command = [sys.executable, "-B", SOURCE / "bench" / "compare.py", "--sluice", self.sluice, "--llama-bench", self.llama,
                   "--ik-llama-bench", self.ik, "--models", self.folder / "models", "--cases", "decode", "--pairs", "2", "--threads", "2",
                   "--disturbed", "1", "--results", self.folder / "out.json", "--markdown", self.folder / "page.md",
                   "--chart", self.folder / "chart.svg", *more]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                              env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
        self.assertEqual(done.returncode, expect, done.stderr)
        return (self.folder / "page.md").read_text(), json.loads((self.folder / "out.json").read_text()), done.stderr

    def test_what_is_run_and_told(self):
        (self.folder / "page.md").write_text("before\n<!-- from here on by bench/compare.py -->\nold\n<!-- up to here -->\nbehind\n")
        page, report, _ = self.compare({"ours": [20, 30, 24], "full": [18, 20, 22], "llama": [10, 15, 16], "ik": [20, 10, 12]}, "--pairs", "3")
        # Alternating, odd rounds in reverse; Sluice with the head that it would choose and with the full one.
        runs = [line.split() for line in (self.folder / "order").read_text().splitlines()]
        forth = ["ours", "full", "llama", "ik"]
        self.assertEqual([run[0] for run in runs], forth + forth[::-1] + forth)
        for run in runs:
            ours = run[0] in ("ours", "full")  # in parts, with the machine's bandwidth between them
            self.assertEqual(run[run.index("-n") + 1], "8" if ours else "64")
            self.assertEqual(run[run.index("--reps" if ours else "-r") + 1], "8" if ours else "1")
            self.assertEqual(run[run.index("-t") + 1], "2")
        self.assertIn("-rtr 1 -fa 1", " ".join(runs[3]))
        # Within a round: 20 ÷ 20, 30 ÷ 10, 24 ÷ 12.
        for ratio, expected in zip(report["results"]["decode 0.8b"]["ratios"]["ik_llama.cpp"], [1, 3, 2], strict=True):
            self.assertAlmostEqual(ratio, expected)
        self.assertTrue(page.startswith("before\n"))
        self.assertTrue(page.endswith("behind\n"))
        self.assertNotIn("old", page)
        rows = {cells[1]: cells[2:-1] for cells in (re.split(r" *\| *", line) for line in page.splitlines()) if len(cells) > 4}
        bandwidth = "40.0 (40.0 to 40.0)"
        self.assertEqual(rows["Sluice"], ["24.0 (20.0 to 30.0)", "", "80.0 % (66.7 % to 100.0 %)", bandwidth, "3", "0"])
        self.assertEqual(rows["ik_llama.cpp"], ["12.0 (10.0 to 20.0)", "2.00 × (1.000 × to 3.00 ×)", "48.0 % (40.0 % to 80.0 %)",
                                                bandwidth, "3", "0"])
        self.assertEqual(rows["decode 0.8b: of its floor"], ["≥ 92.0 %", "80.0 % (66.7 % to 100.0 %)", "**no**"])
        self.assertEqual(rows["decode 0.8b: of ik_llama.cpp"], ["≥ 1.150 ×", "2.00 × (1.000 × to 3.00 ×)", "yes"])
        for said in ("sluice 9.9 (commit abc)", "`bench -t 2`", "llama.cpp c0ffee (7): `-fa on`", "ik of today: `-rtr 1 -fa 1`"):
            self.assertIn(said, page)

    def test_a_page_without_marks_stays_as_it_is(self):
        """Told before anything is measured. A new page gets marks, so that it can be written again."""
        page = self.folder / "page.md"
        begin, end = "<!-- from here on by bench/compare.py -->", "<!-- up to here -->"
        for text in ("by hand\n", f"by hand\n{begin}\n", f"{end}\nby hand\n{begin}\n"):
            page.write_text(text)
            (self.folder / "rates").write_text("{}")
            command = [sys.executable, "-B", SOURCE / "bench" / "compare.py", "--sluice", self.sluice, "--markdown", page]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"{page} has text, but not {begin}", done.stderr)
            self.assertEqual(page.read_text(), text)
            self.assertFalse((self.folder / "order").exists())
        page.unlink()
        rates = {"ours": [20, 28], "full": [18, 20], "llama": [10, 15], "ik": [20, 10]}
        written, _, _ = self.compare(rates)
        self.assertTrue(written.startswith(f"{begin}\n") and written.endswith(f"\n{end}\n"))
        page.write_text(f"by hand\n{written}")
        (self.folder / "out.json").unlink()
        again, _, _ = self.compare(rates)
        self.assertEqual(re.sub("Measured .*", "", again), re.sub("Measured .*", "", f"by hand\n{written}"))

    def test_rows_are_judged_by_one_row_of_the_same_head(self):
        # Rounds 0 and 1; the second round's eight rows were disturbed.
        found = {"1 row": Measured({OURS: {0: 30.0, 1: 20.0}, FULL_HEAD: {0: 20.0, 1: 10.0}}),
                 "2 rows": Measured({OURS: {0: 48.0, 1: 40.0}, FULL_HEAD: {0: 40.0, 1: 16.0}}),
                 "8 rows": Measured({OURS: {0: 120.0}, FULL_HEAD: {0: 128.0}})}
        judged = {target.what: (target.values, target.reached) for target in targets(found, has_amx=False)}
        self.assertEqual(judged, {"2 rows: step time, of 1 row's": ([1.25, 1.0], False),
                                  "8 rows: step time, of 1 row's": ([2.0], False),
                                  "2 rows, full head: step time, of 1 row's": ([1.0, 1.25], False),
                                  "8 rows, full head: step time, of 1 row's": ([1.25], True)})

    def test_the_picture(self):
        self.compare({"ours": [20, 28], "full": [18, 20], "llama": [10, 15], "ik": [20, 10]})
        root = xml.parse(self.folder / "chart.svg").getroot()
        space = "{http://www.w3.org/2000/svg}"
        texts = [element.text for element in root.iter(space + "text")]
        for expected in ("Sluice", "Sluice, full head", "llama.cpp", "ik_llama.cpp", "80 %  ·  24.0 tok/s",
                         "memory meanwhile: 40.0 (40.0 to 40.0) GB/s"):
            self.assertIn(expected, texts)
        for expected in ("sluice 9.9 (commit abc): bench -t 2", "ik of today: -rtr 1 -fa 1"):
            self.assertTrue(any(text.startswith(expected) for text in texts), texts)
        width, height = float(root.get("width")), float(root.get("height"))
        for rect in root.iter(space + "rect"):
            if rect.get("width") != "100%":
                self.assertLessEqual(float(rect.get("x")) + float(rect.get("width")), width)
        self.assertTrue(all(float(element.get("y")) < height for element in root.iter(space + "text")))

    def test_runs_that_others_disturbed_count_nowhere(self):
        """Nothing is as quiet as is asked for here: two tries for each, then none."""
        page, report, said = self.compare({"ours": [20] * 4, "full": [18] * 4, "llama": [10] * 4, "ik": [12] * 4},
                                          "--disturbed", "-1", "--retries", "1")
        measured = report["results"]["decode 0.8b"]
        self.assertEqual((measured["rates"], measured["discarded"]), ({}, dict.fromkeys(("Sluice", "Sluice, full head", "llama.cpp", "ik_llama.cpp"), 4)))
        self.assertEqual(said.count("discarded"), 16)
        self.assertIn("### decode 0.8b", page)

    def test_a_peer_that_fails_is_left_out_and_told_of(self):
        page, report, _ = self.compare({"ours": [20, 30], "full": [18, 20], "llama": [10, None], "ik": [20, 10]})
        self.assertEqual(report["results"]["decode 0.8b"]["problems"], {"llama.cpp": "llama-bench: exit code 3: error: out of luck"})
        self.assertIn("- decode 0.8b, llama.cpp: llama-bench: exit code 3: error: out of luck", page)
        self.assertIn("| llama.cpp | 10.0 *broke* | 2.00 × |", page)

    def test_what_was_measured_is_kept(self):
        rates = {"ours": [20, 28], "full": [18, 20], "llama": [10, 15], "ik": [20, 10]}
        page, first, _ = self.compare(rates)
        (self.folder / "models" / "2b-1").mkdir()
        (self.folder / "models" / "2b-1" / "made").touch()
        longer, report, _ = self.compare(rates, "--shapes", "0.8b,2b")
        runs = (self.folder / "order").read_text().splitlines()
        self.assertEqual(["2b" in run for run in runs], [False] * 8 + [True] * 8)
        self.assertEqual(report["results"]["decode 0.8b"], first["results"]["decode 0.8b"])
        self.assertEqual(len(report["probes"]), 8)
        self.assertGreater(report["machine"]["seconds"], first["machine"]["seconds"])
        table = page[page.index("### decode 0.8b"):page.index("### How the targets stand")]
        self.assertIn(table, longer)
        self.assertIn("### decode 2b", longer)
        # Not beside those of another build.
        self.sluice.write_text(self.sluice.read_text().replace("sluice 9.9", "sluice 10"))
        done = subprocess.run([sys.executable, "-B", SOURCE / "bench" / "compare.py", "--sluice", self.sluice, "--cases", "decode",
                               "--models", self.folder / "models", "--threads", "2", "--results", self.folder / "out.json"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("sluice is sluice 9.9 (commit abc), here sluice 10 (commit abc)", done.stderr)

    def test_its_own_failure_is_one(self):
        _, _, said = self.compare({"ours": [20, None], "full": [18, 18], "llama": [10, 10], "ik": [20, 20]}, expect=1)
        self.assertIn("out of luck", said)


if __name__ == "__main__":
    unittest.main()
