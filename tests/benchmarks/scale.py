"""Memory and speed against the size of the corpus: encoding, then a few steps of training.

    python tests/benchmarks/scale.py [--sizes 1 100 1000] [--folder DIR] [--json FILE]

Corpora of so many megabytes are made on the spot from the fables of this repository. Anonymous
memory is ``RssAnon`` of the process at its highest, looked at ten times a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import REPOSITORY, show, write_json

FABLES = REPOSITORY / "corpora" / "fables.txt"


def make_corpus(path: Path, megabytes: int) -> None:
    text = FABLES.read_bytes()
    with path.open("wb") as file:
        for _ in range(megabytes * 1_000_000 // len(text) + 1):
            file.write(text)


def anonymous_megabytes() -> float:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1000
    return 0.0


class Watch(threading.Thread):
    """The highest anonymous memory seen."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.start()

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, anonymous_megabytes())
            time.sleep(0.1)


def measure(corpus: str) -> dict:
    from chargen.corpus import read_corpus

    watch = Watch()
    began = time.perf_counter()
    read = read_corpus([corpus], spool_folder=Path(corpus).parent)
    encoding_seconds = time.perf_counter() - began
    encoding_peak = watch.peak
    size = read.tokens.size
    del read
    import chargen

    began = time.perf_counter()
    chargen.train(corpus, output=f"{corpus}.keras", steps=200, validate_every=200)
    return {
        "encoding_mb_per_second": size / 1e6 / encoding_seconds,
        "encoding_anonymous_mb": encoding_peak,
        "training_seconds": time.perf_counter() - began,
        "training_anonymous_mb": watch.peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1000], metavar="MB")
    parser.add_argument("--folder", metavar="DIR", help="where the corpora are made")
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    results = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for megabytes in arguments.sizes:
            corpus = Path(folder) / f"{megabytes}mb.txt"
            make_corpus(corpus, megabytes)
            found = subprocess.run(
                [sys.executable, __file__, "--measure", str(corpus)],
                check=True,
                capture_output=True,
                text=True,
            )
            results.append({"megabytes": megabytes, **json.loads(found.stdout)})
            corpus.unlink()
    rows = [
        [
            f"{result['megabytes']:,} MB",
            f"{result['encoding_mb_per_second']:.0f} MB/s",
            f"{result['encoding_anonymous_mb']:.0f} MB",
            f"{result['training_seconds']:.1f} s",
            f"{result['training_anonymous_mb']:.0f} MB",
        ]
        for result in results
    ]
    show(
        "Corpus size",
        ["corpus", "encoding", "anonymous", "200 steps", "anonymous"],
        rows,
    )
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
