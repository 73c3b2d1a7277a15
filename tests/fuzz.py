"""Coverage-guided fuzzing of the readers of files that are not trusted: ``make fuzz``.

Each reader gets a process of its own, in turn, that spoils small files (``mutations``), keeps those
that reach new lines of ours, and stops at the first one that is neither read nor refused as it
should be, or is past the limits of time and memory. What is found lies in ``.fuzz``, and a later
call goes on from there. Needs atheris: ``pip install -e '.[fuzz]'``.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".fuzz"
TARGETS = ("archive", "state", "hdf5")
SHARES_OF_TIME = {"archive": 0.5, "state": 0.25, "hdf5": 0.25}
SHARES_OF_INPUTS = {"archive": 0.25, "state": 0.25, "hdf5": 0.5}
LONGEST_INPUT = 1 << 16
MOST_MEMORY = 200 << 10  # KB that the process ever had


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=300, help="for all readers together")
    parser.add_argument("--runs", type=int, help="inputs, instead of a time")
    parser.add_argument("--within", choices=TARGETS, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", action="store_true", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.seeds:
        write_seeds()
    elif options.within:
        fuzz(options.within, rest)
    else:
        sys.exit(in_turn(options.seconds, options.runs))


def in_turn(seconds: int, runs: int | None) -> int:
    """Fuzz every reader, tell what came of it, and give the status."""
    subprocess.run([sys.executable, __file__, "--seeds"], check=True, capture_output=True)
    total, status = 0, 0
    for name in TARGETS:
        length = f"-max_total_time={seconds * SHARES_OF_TIME[name]:.0f}"
        if runs is not None:
            length = f"-runs={runs * SHARES_OF_INPUTS[name]:.0f}"
        began = time.monotonic()
        words = [sys.executable, __file__, "--within", name, length]
        ended = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", check=False
        )
        took, output = time.monotonic() - began, ended.stdout
        count = _last(r"^#(\d+)", output)
        coverage, kept = _last(r"cov: (\d+)", output), _last(r"corp: (\d+)", output)
        memory = _last(r"rss: (\d+)Mb", output)
        total += count
        print(
            f"{name:<8} {count:>9,} inputs in {took:.0f} s, {count / took:,.0f} a second, coverage"
            f" {coverage}, {kept} kept, {memory} MB",
            flush=True,
        )
        if ended.returncode:
            print("".join(output.partition("=== Uncaught")[1:]) or output[-3000:])
            status = 1
    verdict = "and something was found" if status else "none past the limits"
    print(f"{'in all':<8} {total:>9,} inputs, {verdict}")
    return status


def _last(pattern: str, output: str) -> int:
    """The number that libFuzzer told last."""
    return int((re.findall(pattern, output, re.MULTILINE) or ["0"])[-1])


def fuzz(name: str, options: list[str]) -> None:
    """Let libFuzzer spoil inputs for the reader ``name`` until ``options`` end it."""
    import atheris

    with atheris.instrument_imports(include=["chargen"]):
        from mutations import READERS, spoilt

    path = Path(f"/proc/self/fd/{os.memfd_create('input')}")

    def spoil(data: bytes, most: int, seed: int) -> bytes:
        return spoilt(data, name, most, seed, atheris.Mutate)

    def examine(data: bytes) -> None:
        READERS[name].examine(data, path)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert memory < MOST_MEMORY, f"{memory >> 10} MB"

    folder = FOLDER / name
    words = [
        *(sys.argv[0], str(folder), f"-max_len={LONGEST_INPUT}", f"-artifact_prefix={FOLDER}/"),
        *("-timeout=20", "-rss_limit_mb=400", "-print_final_stats=1", "-len_control=0"),
        *options,
    ]
    atheris.Setup(words, examine, custom_mutator=spoil)
    atheris.Fuzz()


def write_seeds() -> None:
    """Small files of each reader, from which the fuzzing begins."""
    from model_files import seeds

    for name, inputs in seeds().items():
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (FOLDER / name / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
