"""What the benchmarks share: contenders run in turn, ratios of pairs, a table and JSON.

A contender is a process of its own that waits while another runs, so that no thread pool of one
disturbs the other, and the rounds of a comparison lie close together in time. Figures are medians
over the rounds; a ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

_READY = "ready"


class Contender:
    """A worker process: ``ask`` sends one line and waits for one JSON answer."""

    def __init__(self, script: str, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), "--worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if self._answer() != _READY:
            raise RuntimeError(f"the worker {' '.join(arguments)} did not start")

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with status {self._process.wait()}")
        return json.loads(line)

    def ask(self, question: str) -> Any:
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(answer: Callable[[str], Any]) -> None:
    """The other side of ``Contender``: answer each line of stdin."""
    print(json.dumps(_READY), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), flush=True)


def serve_rate(run: Callable[[int], float], seconds: float) -> None:
    """Answer each question with the rate of ``run(count)``, which returns how much it made, over a
    count that takes about ``seconds``."""
    run(3)
    count, took = 4, 0.0
    while took <= seconds / 3:
        count *= 2
        began = time.perf_counter()
        run(count)
        took = time.perf_counter() - began
    count = max(2, round(count * seconds / took))

    def rate(_: str) -> float:
        began = time.perf_counter()
        made = run(count)
        return made / (time.perf_counter() - began)

    serve(rate)


def in_turn(contenders: dict[str, Contender], question: str, rounds: int) -> dict[str, list[Any]]:
    """Ask every contender once a round; the answers by name."""
    answers: dict[str, list[Any]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            answers[name].append(contender.ask(question))
    return answers


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return f"{names[0]}, {len(names)} processors"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", caption=processor(), caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=max(80, 14 * len(columns) + 30)).print(table)


def write_json(path: str | None, results: Any) -> None:
    if path is not None:
        Path(path).write_text(json.dumps({"processor": processor(), "results": results}, indent=1))
