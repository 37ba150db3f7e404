"""Adds up the results of several pytest runs and prints them as pytest prints one.

tox runs pytest more than once (databases, versions); each run appends a line to the file that
``TEST_SUMMARY_FILE`` names, and ``python -m tests.support.summary FILE`` prints the sum.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

OUTCOMES = ("failed", "passed", "skipped", "xfailed", "xpassed", "error", "errors", "warnings")


def append(path: Path, *, counts: Mapping[str, int], seconds: float) -> None:
    """Add one run's counts to the file ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"counts": dict(counts), "seconds": seconds}) + "\n")


def combine(path: Path) -> str:
    """``812 passed, 3 skipped in 214.05s`` over every run in the file."""
    runs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run["counts"])
    if total["error"] > 1:
        total["errors"] = total.pop("error")
    parts = [f"{total[outcome]} {outcome}" for outcome in OUTCOMES if total[outcome]]
    seconds = sum(run["seconds"] for run in runs)
    return f"{', '.join(parts) or 'no tests ran'} in {seconds:.2f}s"


if __name__ == "__main__":
    print(f" {combine(Path(sys.argv[1]))} ".center(80, "="))
