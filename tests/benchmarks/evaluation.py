"""Characters a second in ``evaluate``, against a loop of single steps and the same pass in PyTorch.

    python tests/benchmarks/evaluation.py [--rounds N] [--json FILE]

LSTMs of 65 characters with random weights, on a text of a million characters:

* chargen: ``evaluate``, the whole pass;
* steps: one step a character and its surprisal, on the text's beginning;
* PyTorch (``pip install torch``): the pass of ``evaluate`` with ``nn.LSTM``, as many streams and as
  long a warm-up, log-softmax and gather, the better of several chunk lengths, on all processors
  that this process may use. The figures of both are compared too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from itertools import pairwise

from generation import EMBEDDING, VOCABULARY, Shape, engine_of, tensors_of
from harness import Contender, in_turn, median_ratio, serve, show, write_json

CHARACTERS = 1_000_000
STEPPED = 20_000
CHUNKS = (64, 128, 256)
SHAPES = [Shape(1, 128), Shape(1, 256), Shape(2, 256), Shape(1, 512)]


def text():
    import numpy as np

    return np.random.default_rng(1).integers(VOCABULARY, size=CHARACTERS, dtype=np.uint8)


def chargen_worker(shape: Shape):
    from chargen.evaluation import evaluate

    engine, tokens = engine_of(shape), text()
    evaluate(engine, tokens[: CHARACTERS // 10])

    def measure(_: str) -> dict:
        began = time.perf_counter()
        found = evaluate(engine, tokens)
        took = time.perf_counter() - began
        return {"rate": found.characters / took, "bits": found.bits_per_char}

    return measure


def steps_worker(shape: Shape):
    import numpy as np

    from chargen.evaluation import surprisals

    engine, tokens = engine_of(shape), text()[: STEPPED + 1].tolist()

    def measure(_: str) -> dict:
        state, nats = engine.zero_state(), 0.0
        began = time.perf_counter()
        for token, target in pairwise(tokens):
            nats += float(surprisals(engine.step(state, token), np.asarray(target))[0])
        return {"rate": STEPPED / (time.perf_counter() - began)}

    return measure


def torch_worker(shape: Shape):
    import math

    import torch
    from torch import nn

    from chargen.passes import WARM_UP, num_streams

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tensors = {name: torch.from_numpy(value) for name, value in tensors_of(shape).items()}
    embedding = nn.Embedding(VOCABULARY, EMBEDDING)
    body = nn.LSTM(EMBEDDING, shape.units, shape.layers)
    head = nn.Linear(shape.units, VOCABULARY)
    with torch.no_grad():
        embedding.weight.copy_(tensors["embedding"])
        for layer in range(shape.layers):
            of = f"recurrent_{layer + 1}"
            getattr(body, f"weight_ih_l{layer}").copy_(tensors[f"{of}/kernel"].T)
            getattr(body, f"weight_hh_l{layer}").copy_(tensors[f"{of}/recurrent_kernel"].T)
            getattr(body, f"bias_ih_l{layer}").copy_(tensors[f"{of}/bias"])
            getattr(body, f"bias_hh_l{layer}").zero_()
        head.weight.copy_(tensors["head/kernel"].T)
        head.bias.copy_(tensors["head/bias"])
    tokens = torch.from_numpy(text().astype("int64"))

    @torch.inference_mode()
    def evaluate(size: int, chunk: int) -> float:
        """Nats of the characters that are scored in streams: all but a few at the end."""
        streams = num_streams(size)
        length = (size - 1) // streams
        starts = torch.arange(streams) * length
        steps = torch.arange(-WARM_UP, 0)[:, None]
        _, state = body(embedding(tokens[torch.clamp(starts + steps, min=0)]))
        for part in state:
            part[:, 0] = 0
        nats = 0.0
        for first in range(0, length, chunk):
            positions = starts + torch.arange(first, min(first + chunk, length))[:, None]
            outputs, state = body(embedding(tokens[positions]), state)
            logs = torch.log_softmax(head(outputs), -1)
            targets = tokens[positions + 1][..., None]
            nats -= logs.gather(-1, targets).sum(dtype=torch.float64).item()
        return nats / streams / length

    def timed(size: int, chunk: int) -> tuple[float, float]:
        began = time.perf_counter()
        nats = evaluate(size, chunk)
        return (size - 1) / (time.perf_counter() - began), nats / math.log(2)

    evaluate(CHARACTERS // 10, CHUNKS[0])
    best = max(CHUNKS, key=lambda chunk: timed(CHARACTERS // 4, chunk)[0])

    def measure(_: str) -> dict:
        rate, bits = timed(CHARACTERS, best)
        return {"rate": rate, "bits": bits, "chunk": best}

    return measure


WORKERS = {"chargen": chargen_worker, "steps": steps_worker, "torch": torch_worker}


def compare(shape: Shape, rounds: int) -> dict:
    names = [name for name in WORKERS if name != "torch" or importlib.util.find_spec("torch")]
    words = ",".join(map(str, shape))
    contenders = {name: Contender("evaluation.py", [name, words]) for name in names}
    found = in_turn(contenders, "go", rounds)
    for contender in contenders.values():
        contender.close()
    rates = {name: [one["rate"] for one in found[name]] for name in names}
    return {
        "shape": str(shape),
        "characters_per_second": {name: statistics.median(rates[name]) for name in names},
        "over_steps": median_ratio(rates["chargen"], rates["steps"]),
        "over_torch": median_ratio(rates["chargen"], rates["torch"]) if "torch" in names else None,
        "bits_per_char": {name: found[name][0]["bits"] for name in names if name != "steps"},
        "torch_chunk": found["torch"][0]["chunk"] if "torch" in names else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, words = arguments.worker
        serve(WORKERS[name](Shape(*map(int, words.split(",")))))
        return
    results = [compare(shape, arguments.rounds) for shape in SHAPES]
    rows = []
    for result in results:
        rates = result["characters_per_second"]
        bits = result["bits_per_char"]
        rows.append(
            [
                result["shape"],
                f"{rates['chargen']:,.0f}",
                f"{rates['steps']:,.0f}",
                f"{rates['torch']:,.0f}" if "torch" in rates else "-",
                f"{result['over_steps']:.1f}",
                f"{result['over_torch']:.2f}" if "torch" in rates else "-",
                f"{abs(bits['chargen'] - bits['torch']):.1e}" if "torch" in bits else "-",
            ]
        )
    show(
        "Evaluation of a million characters, characters a second, and ratios",
        ["shape", "chargen", "steps", "PyTorch", "/ steps", "/ PyTorch", "bits apart"],
        rows,
    )
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
