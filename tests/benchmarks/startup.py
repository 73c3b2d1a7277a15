"""How long a command takes to start, beside Python importing what it cannot do without.

    python tests/benchmarks/startup.py [--rounds N] [--json FILE]

Whole processes, warm cache, in turn: ``chargen --help`` over ``python -c "import click"``, and one
generated character of an untrained LSTM of 256 units over ``python -c "import numpy, click"``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import median_ratio, show, write_json


def untrained_model(path: Path) -> None:
    import chargen

    chargen.train(text="The quick brown fox.\n" * 50, output=path, steps=1, units=256)


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    arguments = parser.parse_args()
    python, chargen = sys.executable, str(Path(sys.executable).with_name("chargen"))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.keras"
        untrained_model(model)
        pairs = {
            "chargen --help": ([chargen, "--help"], [python, "-c", "import click"]),
            "chargen generate -n 1": (
                [chargen, "generate", "-m", str(model), "-n", "1"],
                [python, "-c", "import numpy, click"],
            ),
        }
        results = {}
        for name, (ours, floor) in pairs.items():
            seconds(ours), seconds(floor)
            times = [(seconds(ours), seconds(floor)) for _ in range(arguments.rounds)]
            mine, theirs = zip(*times, strict=True)
            results[name] = {
                "seconds": statistics.median(mine),
                "floor_seconds": statistics.median(theirs),
                "ratio": median_ratio(mine, theirs),
            }
    rows = [
        [name, f"{r['seconds']:.3f} s", f"{r['floor_seconds']:.3f} s", f"{r['ratio']:.2f}"]
        for name, r in results.items()
    ]
    show("Start-up, whole processes", ["command", "time", "floor", "ratio"], rows)
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
