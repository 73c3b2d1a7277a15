"""Characters a second in generation: chargen's engine and the loops people write.

    python tests/benchmarks/generation.py [--rounds N] [--json FILE]

LSTMs of 65 characters with random weights, temperature 0.8, one stream unless said otherwise:

* chargen: the loop of ``chargen generate``; with top-k, top-p, min-p and a repetition penalty
  together; and 64 texts as a batch, all their characters counted;
* ``predict``: Keras' ``model.predict`` a character over a rolling window of 40, the textbook loop;
* ``tf.function``: a step of stock cells with carried state;
* PyTorch (``pip install torch``): a step of ``nn.LSTM`` without gradients, on one thread, on all;
* the limit: the bandwidth of a matrix-vector product of the same shape over the bytes of the
  weights that a character reads.

Time from the shell to the first character is in ``startup.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from itertools import islice
from typing import NamedTuple

from harness import Contender, in_turn, median_ratio, serve_rate, show, write_json

VOCABULARY, EMBEDDING, WINDOW, SECONDS, TEXTS = 65, 64, 40, 1.5, 64
TEMPERATURE = 0.8
ALL_FILTERS = {"top_k": 40, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.1}


class Shape(NamedTuple):
    layers: int
    units: int

    def __str__(self) -> str:
        return f"lstm {self.layers}x{self.units}"

    @property
    def weight_bytes(self) -> int:
        """Read at every character: recurrent kernels, input kernels above the first, and the head;
        of the first layer's input and of the biases a row."""
        products = 4 * self.units * self.units * (2 * self.layers - 1)
        return 4 * (products + self.units * VOCABULARY)


SHAPES = [Shape(1, 128), Shape(1, 256), Shape(1, 512), Shape(2, 512)]


def config_of(shape: Shape):
    from chargen.config import ModelConfig

    return ModelConfig(VOCABULARY, "lstm", shape.units, shape.layers, EMBEDDING)


def tensors_of(shape: Shape) -> dict:
    import numpy as np

    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(size) / max(size) ** 0.5).astype(np.float32)
        for name, size in config_of(shape).tensor_shapes.items()
    }


def engine_of(shape: Shape):
    from chargen.engine import Engine

    return Engine(config_of(shape), tensors_of(shape))


def chargen_worker(shape: Shape, **filters):
    import numpy as np

    from chargen.config import SamplingConfig
    from chargen.generation import generate_tokens
    from chargen.sampling import Sampler

    sampler = Sampler(SamplingConfig(TEMPERATURE, **filters), np.random.default_rng(0))
    tokens = generate_tokens(engine_of(shape), np.array([0]), sampler)

    def run(count: int) -> int:
        return sum(1 for _ in islice(tokens, count))

    return run


def batch_worker(shape: Shape):
    import numpy as np

    from chargen.config import SamplingConfig
    from chargen.generation import StopRules, generate_samples

    engine = engine_of(shape)
    pieces = [bytes((token,)) for token in range(VOCABULARY)]

    def run(count: int) -> int:
        samples = generate_samples(
            engine,
            np.array([0]),
            SamplingConfig(TEMPERATURE),
            StopRules(max(1, count // TEXTS)),
            range(TEXTS),
            pieces,
        )
        return sum(sample.tokens for sample in samples)

    return run


def stock_network(shape: Shape):
    from chargen.training.backend import ensure_backend

    ensure_backend()
    from chargen.training.network import assign_tensors, build_network

    network = build_network(config_of(shape))
    assign_tensors(network, tensors_of(shape))
    return network


def drawn(logits, rng) -> int:
    import numpy as np

    scaled = np.asarray(logits, np.float64) / TEMPERATURE
    shares = np.exp(scaled - scaled.max())
    return int(rng.choice(shares.size, p=shares / shares.sum()))


def predict_worker(shape: Shape):
    import numpy as np

    network, rng = stock_network(shape), np.random.default_rng(0)
    window = [0] * WINDOW

    def run(count: int) -> int:
        for _ in range(count):
            logits = network.predict(np.array([window]), verbose=0)[0, -1]
            window.append(drawn(logits, rng))
            del window[0]
        return count

    return run


def function_worker(shape: Shape):
    import numpy as np

    network, rng = stock_network(shape), np.random.default_rng(0)
    import tensorflow as tf

    cells = [network.get_layer(f"recurrent_{layer + 1}").cell for layer in range(shape.layers)]
    states = [[tf.zeros((1, shape.units))] * 2 for _ in cells]

    @tf.function
    def step(token, states):
        hidden, after = network.get_layer("embedding")(token), []
        for cell, state in zip(cells, states, strict=True):
            hidden, state = cell(hidden, state)
            after.append(state)
        return network.get_layer("head")(hidden)[0], after

    token = 0

    def run(count: int) -> int:
        nonlocal states, token
        for _ in range(count):
            logits, states = step(tf.constant([token]), states)
            token = drawn(logits.numpy(), rng)
        return count

    return run


def torch_worker(shape: Shape, threads: int | None):
    import numpy as np
    import torch
    from torch import nn

    if threads is not None:
        torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    embedding = nn.Embedding(VOCABULARY, EMBEDDING)
    body = nn.LSTM(EMBEDDING, shape.units, shape.layers)
    head = nn.Linear(shape.units, VOCABULARY)
    state, token = None, 0

    @torch.inference_mode()
    def run(count: int) -> int:
        nonlocal state, token
        for _ in range(count):
            outputs, state = body(embedding(torch.tensor([[token]])), state)
            token = drawn(head(outputs[0, 0]).numpy(), rng)
        return count

    return run


def limit_worker(shape: Shape):
    """Characters a second if nothing were done but to read the weights, all of them in turn."""
    import numpy as np

    rng = np.random.default_rng(0)
    size = (4 * shape.units, shape.units)
    matrices = [rng.random(size, np.float32) for _ in range(2 * shape.layers - 1)]
    vector, out = matrices[0][0].copy(), np.empty(4 * shape.units, np.float32)

    def run(count: int) -> float:
        for _ in range(count):
            for matrix in matrices:
                np.dot(matrix, vector, out)
        return count * len(matrices) * matrices[0].nbytes / shape.weight_bytes

    return run


def worker(name: str, shape: Shape) -> None:
    run = {
        "chargen": lambda: chargen_worker(shape),
        "filters": lambda: chargen_worker(shape, **ALL_FILTERS),
        "batch": lambda: batch_worker(shape),
        "predict": lambda: predict_worker(shape),
        "function": lambda: function_worker(shape),
        "torch 1": lambda: torch_worker(shape, 1),
        "torch all": lambda: torch_worker(shape, None),
        "limit": lambda: limit_worker(shape),
    }[name]()
    serve_rate(run, SECONDS)


def compare(shape: Shape, rounds: int) -> dict:
    names = ["chargen", "filters", "batch", "predict", "function", "limit"]
    if importlib.util.find_spec("torch"):
        names += ["torch 1", "torch all"]
    words = ",".join(map(str, shape))
    contenders = {name: Contender("generation.py", [name, words]) for name in names}
    found = in_turn(contenders, "go", rounds)
    for contender in contenders.values():
        contender.close()
    speed = {name: statistics.median(found[name]) for name in names}
    torches = [name for name in names if name.startswith("torch")]
    best = max(torches, key=lambda name: speed[name], default=None)
    return {
        "shape": str(shape),
        "characters_per_second": speed,
        "over_predict": median_ratio(found["chargen"], found["predict"]),
        "over_function": median_ratio(found["chargen"], found["function"]),
        "over_torch": None if best is None else median_ratio(found["chargen"], found[best]),
        "filters": median_ratio(found["filters"], found["chargen"]),
        "batch": median_ratio(found["batch"], found["chargen"]),
        "of_limit": median_ratio(found["chargen"], found["limit"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, words = arguments.worker
        worker(name, Shape(*map(int, words.split(","))))
        return
    results = [compare(shape, arguments.rounds) for shape in SHAPES]
    rows = []
    for result in results:
        speed = result["characters_per_second"]
        torch = max((speed[name] for name in speed if name.startswith("torch")), default=None)
        rows.append(
            [
                result["shape"],
                f"{speed['chargen']:,.0f}",
                f"{speed['predict']:,.1f}",
                f"{speed['function']:,.0f}",
                "-" if torch is None else f"{torch:,.0f}",
                f"{result['over_predict']:,.0f}",
                "-" if torch is None else f"{result['over_torch']:.1f}",
                f"{result['filters']:.2f}",
                f"{result['batch']:.1f}",
                f"{result['of_limit']:.2f}",
            ]
        )
    show(
        "Generation, characters a second, and ratios",
        [
            "shape",
            "chargen",
            "predict",
            "tf.function",
            "PyTorch",
            "/ predict",
            "/ PyTorch",
            "filters",
            "batch",
            "of limit",
        ],
        rows,
    )
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
