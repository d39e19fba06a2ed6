"""Random inputs of the Python tests, as tests/support/seed.h has them: the same in every run, unless SLUICE_TEST_SEED is
`fresh` or a number, which repeats a run."""

import os
import random


def seeded(name):
    """Random numbers for the test `name`; prints their seed."""
    seed = os.environ.get("SLUICE_TEST_SEED", name)
    if seed == "fresh":
        seed = str(int.from_bytes(os.urandom(8), "little"))
    print(f"{name}: SLUICE_TEST_SEED={seed}")
    return random.Random(seed)
