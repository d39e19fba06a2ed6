#!/usr/bin/env python3
"""Prints, for each C++ source named in the arguments, the number of the batch that it is compiled in with SLUICE_UNITY.

Files of a batch become one translation unit, so no two of them may define the same name for themselves, that is in an unnamed
namespace: such files get different batches. Otherwise batches are about equally long. Argument 1 is how many there are to be
at least. The sources are read as .clang-format leaves them: what is at the left edge begins a definition.
"""

import os
import re
import sys

TYPE = re.compile(r"(?:class|struct|enum class|enum|union) (\w+)|using (\w+) =")
MATCHER = re.compile(r"MATCHER\w*\((\w+)")
OTHER = re.compile(r"[\w:<>,.&*\[\] ()]*?\b(\w+)\s*[({=\[;]")  # a function or a variable
HARMLESS = ("static_assert", "TEST", "TEST_F", "TEST_P", "INSTANTIATE_TEST_SUITE_P")


def own_names(path):
    """What the file defines in its unnamed namespaces."""
    names = set()
    unnamed = False
    for line in open(path, encoding="utf-8"):
        if line.startswith("namespace {"):
            unnamed = True
        elif line.startswith("}  // namespace\n"):
            unnamed = False
        elif unnamed and (line[0].isalpha() or line[0] == "["):
            line = re.sub(r"^template <.*?> (?=\w)", "", line)
            found = TYPE.match(line) or MATCHER.match(line)
            if not found and not line.startswith(("using ", "namespace ", "template <")):
                found = OTHER.match(line)
            if found:
                names.update(filter(None, found.groups()))
    return names.difference(HARMLESS)


def batches(paths, least):
    """A list of lists of paths."""
    made = [([], set(), [0]) for _ in range(least)]
    names = {path: own_names(path) for path in paths}
    size = {path: os.path.getsize(path) for path in paths}
    shared = {path: sum(bool(names[path] & names[other]) for other in paths) for path in paths}
    for path in sorted(paths, key=lambda path: (-shared[path], -size[path], path)):
        free = [batch for batch in made if not batch[1] & names[path]]
        if not free:
            free = [([], set(), [0])]
            made += free
        files, taken, length = min(free, key=lambda batch: batch[2][0])
        files.append(path)
        taken |= names[path]
        length[0] += size[path]
    return [files for files, _, _ in made]


def main():
    least, paths = int(sys.argv[1]), sys.argv[2:]
    number = {path: i for i, files in enumerate(batches(paths, least)) for path in files}
    print(";".join(str(number[path]) for path in paths))


main()
