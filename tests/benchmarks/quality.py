"""What a minute buys: held-out nats a character after a fixed wall clock, everything counted.

    python tests/benchmarks/quality.py --corpus FILE [--budget 100s ...] [--json FILE]

For each budget, in turn: ``chargen train --budget`` with all else default, as a process from its
start to its end, and a PyTorch trainer (``pip install torch``) with the same recipe and the same
wall clock: the architecture, batch, schedule, clip, dropout and streams that chargen chose. The
figure is that of ``chargen evaluate`` on the held-out tenth, read in order from zero state.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import REPOSITORY, show, write_json

from chargen.config import parse_duration


def chargen_run(corpus: str, budget: str, folder: str) -> dict:
    """One training process; its figure, its seconds, and what it chose."""
    output = str(Path(folder) / "model.keras")
    command = [sys.executable, "-m", "chargen"]
    began = time.perf_counter()
    subprocess.run(
        [*command, "train", corpus, "--budget", budget, "-o", output, "--force", "--quiet"],
        check=True,
    )
    seconds = time.perf_counter() - began
    info = json.loads(
        subprocess.run(
            [*command, "info", "-m", output, "--json"], check=True, capture_output=True
        ).stdout
    )
    return {
        "nats": info["training"]["held_out"]["nats_per_char"],
        "seconds": seconds,
        "budget_kept": seconds / parse_duration(budget),
        "model": info["model"],
        "training": info["training"],
    }


def torch_run(corpus: str, seconds: float, model: dict, training: dict) -> float:
    """Nats a character of a PyTorch twin after ``seconds`` of this process' time."""
    began = time.monotonic()
    import numpy as np
    import torch
    from torch import nn

    from chargen.corpus import read_corpus
    from chargen.windows import Streams

    read = read_corpus([corpus])
    torch.manual_seed(training["random_seed"])
    vocabulary, units, layers = model["vocabulary_size"], model["units"], model["num_layers"]
    embedding = nn.Embedding(vocabulary, model["embedding_dim"])
    nn.init.normal_(embedding.weight, 0.0, 0.6)
    kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[model["cell"]]
    bodies = nn.ModuleList(
        kind(model["embedding_dim"] if layer == 0 else units, units) for layer in range(layers)
    )
    head = nn.Linear(units, vocabulary)
    for body in bodies:
        gates = body.weight_hh_l0.shape[0] // units
        nn.init.xavier_uniform_(body.weight_ih_l0)
        for gate in range(gates):
            nn.init.orthogonal_(body.weight_hh_l0.data[gate * units : (gate + 1) * units])
        nn.init.zeros_(body.bias_ih_l0)
        nn.init.zeros_(body.bias_hh_l0)
        if model["cell"] == "lstm":
            body.bias_ih_l0.data[units : 2 * units] = 1.0
    nn.init.xavier_uniform_(head.weight)
    counts = torch.from_numpy(read.token_counts())
    head.bias.data = ((counts + 1) / (counts.sum() + vocabulary)).log().float()
    parameters = [*embedding.parameters(), *bodies.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 1.0, betas=(0.9, 0.99), eps=1e-7)
    windows = Streams(read.training_part, training["batch_size"], training["sequence_length"], 0)
    states: list = [None] * layers

    def step(number: int, rate: float) -> None:
        batch = windows.batch(number)
        carry = torch.from_numpy(batch.carry.astype("float32"))[None, :, None]
        hidden = embedding(torch.from_numpy(batch.inputs.T.astype("int64")))
        for layer, body in enumerate(bodies):
            before = states[layer]
            if before is not None:
                before = tuple(s * carry for s in before)
                before = before if model["cell"] == "lstm" else before[0]
            hidden, after = body(hidden, before)
            after = after if isinstance(after, tuple) else (after,)
            states[layer] = tuple(s.detach() for s in after)
            if model["dropout"]:
                mask = torch.rand(1, *hidden.shape[1:]) >= model["dropout"]
                hidden = hidden * mask / (1 - model["dropout"])
        targets = torch.from_numpy(batch.targets.T.astype("int64"))
        loss = nn.functional.cross_entropy(
            head(hidden).reshape(-1, vocabulary), targets.reshape(-1)
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    @torch.no_grad()
    def held_out() -> float:
        ids = torch.from_numpy(np.array(read.held_out_part, "int64"))
        hidden = embedding(ids[:-1, None])
        for body in bodies:
            hidden, _ = body(hidden)
        return float(nn.functional.cross_entropy(head(hidden[:, 0]), ids[1:]))

    timed = time.monotonic()
    held_out()
    reserve = time.monotonic() - timed
    done = 0
    while True:  # the schedule follows the clock, which needs no calibration
        share = (time.monotonic() - began) / (seconds - reserve)
        if share >= 1:
            break
        warm_up = min(1.0, (done + 1) / 50)
        cosine = 0.5 * (1 + math.cos(math.pi * share))
        step(done, training["learning_rate"] * min(warm_up, cosine))
        done += 1
    return held_out()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default=str(REPOSITORY / "corpora" / "fables.txt"))
    parser.add_argument("--budget", action="append", metavar="TIME", help="default: 100s and 300s")
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    parser.add_argument("--torch", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torch:
        seconds, chosen = float(arguments.torch[0]), json.loads(arguments.torch[1])
        print(torch_run(arguments.corpus, seconds, chosen["model"], chosen["training"]))
        return
    results = []
    for budget in arguments.budget or ["100s", "300s"]:
        with tempfile.TemporaryDirectory() as folder:
            found = chargen_run(arguments.corpus, budget, folder)
        if importlib.util.find_spec("torch"):
            command = [sys.executable, __file__, "--corpus", arguments.corpus]
            command += ["--torch", str(parse_duration(budget)), json.dumps(found)]
            twin = subprocess.run(command, check=True, capture_output=True, text=True)
            found["torch_nats"] = float(twin.stdout)
        results.append({"budget": budget, **found})
    rows = [
        [
            result["budget"],
            f"{result['nats']:.4f}",
            f"{result['torch_nats']:.4f}" if "torch_nats" in result else "-",
            f"{100 * result['budget_kept']:.1f} %",
            f"{result['model']['cell']} {result['model']['num_layers']}x{result['model']['units']}",
        ]
        for result in results
    ]
    show(
        f"Held-out nats a character, {Path(arguments.corpus).name}",
        ["budget", "chargen", "PyTorch twin", "budget kept", "model"],
        rows,
    )
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
