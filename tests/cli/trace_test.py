"""--trace and --timeline: that the JSON is what happened, that the picture is one, and what comes of files that can't be written."""

import collections
import json
import os
import re
import unittest
import xml.etree.ElementTree as xml

from harness import FAILED, SOURCE, WRONG_USAGE, CliTest, write_known_model

DEMO = SOURCE / "models" / "demo"


def bench(*more):
    return ["bench", DEMO, "-p", 40, "-n", 6, "--rows", "1,3", "--reps", 1, "-t", 2, "--seed", 1, *more]


class Trace(CliTest):
    def read(self, path):
        trace = json.loads(path.read_text())
        self.assertEqual(trace["displayTimeUnit"], "ns")
        names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
        rows = collections.defaultdict(list)  # (series, row) -> slices
        for event in trace["traceEvents"]:
            if event["ph"] == "X":
                # Nanoseconds, as exact as the text.
                begin, length = round(event["ts"] * 1000), round(event["dur"] * 1000)
                rows[event["pid"], names[event["pid"], event["tid"]]].append((begin, begin + length, event))
        return trace, rows

    def check_steps(self, rows, series, n_workers):
        """Everything that a series says of its steps; gives the steps' slices."""
        steps = {e["args"]["step"]: (begin, end, e) for begin, end, e in rows[series, "steps"]}
        tasks = collections.defaultdict(list)
        for worker in range(n_workers):
            until = 0
            for begin, end, event in rows[series, f"worker {worker}"]:
                self.assertGreaterEqual(begin, until, event)  # in order, nothing overlaps
                until = end
                inside = steps[event["args"]["step"]]
                self.assertTrue(inside[0] <= begin and end <= inside[1], event)
                if event["cat"] == "task":
                    tasks[event["args"]["step"]].append((begin, end, event))
                else:
                    self.assertEqual(event["name"], "wait")
                    self.assertRegex(event["args"]["for"], r"^[a-z_]+")
        for number, (_, _, step) in steps.items():
            done = tasks[number]
            self.assertEqual(sorted(e["args"]["task"] for _, _, e in done), list(range(step["args"]["tasks"])))
            self.assertEqual(sum(e["args"]["bytes"] for _, _, e in done), step["args"]["bytes"])
            full = collections.defaultdict(int)  # counter -> when the last task that bumps it ended
            for _, end, event in done:
                full[event["args"]["bumps"]] = max(full[event["args"]["bumps"]], end)
            for begin, _, event in done:
                for counter in event["args"]["waits_for"]:
                    self.assertGreaterEqual(begin, full[counter], event)
        return steps

    def test_bench(self):
        path = self.folder / "trace.json"
        result = self.sluice(*bench("--json", "--trace", path))
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)["results"]
        trace, rows = self.read(path)
        kept = trace["otherData"]["series"]
        self.assertEqual([it["name"] for it in kept], ["decode, 1 row", "decode, 3 rows", "prefill, 40 rows", "mixed, 43 rows"])
        for number, (series, case) in enumerate(zip(kept, report), 1):
            steps = self.check_steps(rows, number, 2)
            self.assertEqual(len(steps), series["steps_kept"])
            self.assertEqual(series["steps_kept"], series["steps_run"])
            self.assertEqual({e["args"]["tasks"] for _, _, e in steps.values()}, {case["tasks_per_step"]})
            self.assertEqual({e["args"]["rows"] for _, _, e in steps.values()}, {case["rows"]})
            mean = sum(e["args"]["bytes"] for _, _, e in steps.values()) / len(steps)
            self.assertAlmostEqual(mean / case["bytes_per_step"], 1, places=6)
            self.assertIn(f"trace.json: {series['name']}: {len(steps)} of {len(steps)} step", result.stderr.decode())
        names = {e["name"] for slices in rows.values() for _, _, e in slices if e["cat"] == "task"}
        self.assertEqual(names - {"kv_append", "mix_merge"}, {"embed", "mix_in", "mix", "mix_out", "mlp_in", "mlp_out", "head", "sample"})

    def test_a_screened_head(self):
        """Its four ops are of no layer, and what it recomputed is among the bytes."""
        path, picture = self.folder / "trace.json", self.folder / "step.svg"
        result = self.good_json(*bench("--json", "--head", "screened", "--trace", path, "--timeline", picture))["results"][0]
        _, rows = self.read(path)
        steps = self.check_steps(rows, 1, 2)
        mean = sum(e["args"]["bytes"] for _, _, e in steps.values()) / len(steps)
        self.assertAlmostEqual(mean / result["bytes_per_step"], 1, places=6)
        tasks = [e for worker in range(2) for _, _, e in rows[1, f"worker {worker}"] if e["cat"] == "task"]
        for op in ("skim", "screen", "select", "recompute"):
            found = [e["args"] for e in tasks if e["name"] == op]
            self.assertTrue(found, op)
            for arguments in found:
                self.assertEqual((arguments["op"], "layer" in arguments), (op, False))
        panels = sum(e["args"]["panels"] for e in tasks if e["name"] == "recompute")
        self.assertAlmostEqual(16 * panels / len(steps), result["head_rows_recomputed"])
        self.assertGreater(panels, 0)
        root = xml.parse(picture).getroot()
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        narrow = 5  # px a character at least
        for element in root.iter("{http://www.w3.org/2000/svg}text"):
            if not {"end", "mid"} & set(element.get("class", "").split()):
                self.assertLess(float(element.get("x")) + narrow * len(element.text), float(root.get("width")), element.text)
        table = texts[texts.index("moves"):]
        moved = table[table.index("recompute") + 4]  # share, time, tasks, bytes
        self.assertRegex(moved, r"^[1-9][\d.]* kB$")

    def test_one_worker_waits_for_nobody(self):
        path = self.folder / "trace.json"
        self.good("bench", DEMO, "-p", 0, "-n", 4, "--rows", 1, "--reps", 1, "-t", 1, "--trace", path)
        _, rows = self.read(path)
        self.check_steps(rows, 1, 1)
        self.assertEqual({e["cat"] for _, _, e in rows[1, "worker 0"]}, {"task"})

    def test_what_is_cut_is_said(self):
        path = self.folder / "trace.json"
        n = 1000
        result = self.sluice("bench", DEMO, "-p", 0, "-n", n, "--rows", "1,2", "--reps", 1, "-t", 2, "--trace", path)
        self.assertEqual(result.returncode, 0, result.stderr)
        said = re.findall(r"trace.json: decode, (\d) rows?: (\d+) of (\d+) steps \(the first; no room for more\)\n", result.stderr.decode())
        self.assertEqual([(rows, run) for rows, _, run in said], [("1", str(n)), ("2", str(n))], result.stderr)
        text = path.read_text()
        self.assertLess(len(text), 100e6)
        self.assertEqual(text.count('"cat":"step"'), sum(int(kept) for _, kept, _ in said))
        self.assertEqual([(it["steps_run"], it["steps_kept"]) for it in json.loads(text)["otherData"]["series"]],
                         [(n, int(kept)) for _, kept, _ in said])

    def test_run(self):
        model = write_known_model(self.folder / "model")
        path = self.folder / "trace.json"
        plain = self.good("run", model, "-p", "abcde", "--raw", "-n", 9, "-t", 2, "--temp", 0)
        self.assertEqual(self.good("run", model, "-p", "abcde", "--raw", "-n", 9, "-t", 2, "--temp", 0, "--trace", path), plain)
        _, rows = self.read(path)
        steps = self.check_steps(rows, 1, 2)
        self.assertEqual([e["args"]["rows"] for _, _, e in steps.values()], [5] + 8 * [1])
        self.fails(FAILED, "run", model, "-p", "a", "--device", "oracle", "--trace", path, says="use --device cpu")

    def test_run_whose_reader_goes(self):
        model = write_known_model(self.folder / "model")
        path = self.folder / "trace.json"
        process = self.start("run", model, "-p", "abcde", "--raw", "-t", 2, "--temp", 0, "--trace", path)
        process.stdout.close()
        error = process.stderr.read().decode()
        self.assertEqual(process.wait(), 0, error)
        _, rows = self.read(path)
        self.assertEqual(len(self.check_steps(rows, 1, 2)), int(re.search(r"trace.json: run: (\d+) of", error)[1]))

    def test_the_picture(self):
        path = self.folder / "step.svg"
        self.good(*bench("--timeline", path))
        root = xml.parse(path).getroot()
        space = "{http://www.w3.org/2000/svg}"
        self.assertEqual(root.tag, space + "svg")
        self.assertEqual(root.find(space + "title").text, "One token of demo")
        texts = [element.text or "" for element in root.iter(space + "text")]
        for expected in ("time, µs", "worker 0", "worker 1", "mix_in", "head", "waiting for inputs", "together"):
            self.assertIn(expected, texts)
        self.assertTrue(any(re.fullmatch(r"floor: .+ at [\d.]+ GB/s|floor: [\d.]+ [MG]FLOP at the arithmetic peaks", t) for t in texts), texts)
        # In its bar, or beside it.
        bar = next(rect for rect in root.iter(space + "rect") if rect.get("class") == "floor")
        end = float(bar.get("x")) + float(bar.get("width"))
        floor = next(element for element in root.iter(space + "text") if (element.text or "").startswith("floor: "))
        at = float(floor.get("x"))
        self.assertTrue(at >= end if floor.get("style") is None else at + 5 * len(floor.text) <= end, (at, end, floor.text))
        # Nothing from elsewhere.
        text = path.read_text()
        self.assertEqual(re.findall(r"https?://[^\"]*", text), ["http://www.w3.org/2000/svg"])
        self.assertNotRegex(text, r"href|url\(|@import|<script|<image")
        self.assertIn("prefers-color-scheme:dark", text)
        # The shares of all rows of the table are the whole.
        shares = [float(t.removesuffix(" %")) for t in texts if re.fullmatch(r"[\d.]+ %", t)]
        self.assertEqual(shares[-1], 100)
        self.assertAlmostEqual(sum(shares[:-1]), 100, delta=0.05 * len(shares))
        # Every drawn thing lies inside.
        width, height = float(root.get("width")), float(root.get("height"))
        for rect in root.iter(space + "rect"):
            if rect.get("width") != "100%":
                self.assertLessEqual(float(rect.get("x")) + float(rect.get("width")), width)
                self.assertLessEqual(float(rect.get("y")) + float(rect.get("height")), height)

    def test_files_that_cannot_be_written(self):
        """Before any work: the model is damaged, which nobody gets to see."""
        model = write_known_model(self.folder / "model")
        (model / "model.safetensors").write_bytes(b"damaged")
        for option in ("--trace", "--timeline"):
            for file in ("/dev/full", self.folder / "nowhere" / "file", self.folder):
                for command in (["bench", model], *([["run", model, "-p", "a"]] if option == "--trace" else [])):
                    with self.subTest(option=option, file=file, command=command[0]):
                        self.fails(FAILED, *command, option, file, says=str(file))
            self.fails(WRONG_USAGE, "bench", model, option, "", says=option)
            self.fails(FAILED, "bench", model, option, model / "config.json", says="the result comes from this very file")
        closed = self.folder / "closed"
        closed.mkdir(mode=0o555)
        self.fails(FAILED, "bench", "--shape", "qwen3.5-0.8b", "--trace", closed / "x", says="Permission denied", **self.unprivileged())
        self.fails(WRONG_USAGE, "bench", model, "--trace", "x", "--timeline", "./x", says="two names")
        self.assertFalse(os.path.exists("x"))

    def test_nothing_stays_behind_a_failure(self):
        folder = self.folder / "out"
        folder.mkdir()
        model = write_known_model(self.folder / "model")
        (model / "model.safetensors").write_bytes(b"damaged")
        self.fails(FAILED, "bench", model, "--trace", folder / "a", "--timeline", folder / "b")
        self.assertEqual(list(folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
