"""Characters a second in training: chargen's own `fit` path, stock Keras' `fit`, PyTorch.

    python tests/benchmarks/throughput.py [--full] [--rounds N] [--json FILE]

All learn the same thing: carried state, every next character, cross-entropy, clip at norm 1, Adam,
no dropout. Stock Keras is the better of a graph and XLA. PyTorch (``pip install torch``) is left
out where it is not installed. Compilation is not counted. The share of peak is 6 x parameters of
the matrix products x characters a second over the best rate of a large float32 product in the
same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import time
from typing import NamedTuple

from harness import Contender, in_turn, median_ratio, serve, serve_rate, show, write_json

VOCABULARY, EMBEDDING, SECONDS = 65, 64, 1.5


class Shape(NamedTuple):
    cell: str
    layers: int
    units: int
    batch: int
    steps: int

    def __str__(self) -> str:
        return f"{self.cell} {self.layers}x{self.units} b{self.batch} t{self.steps}"


DEFAULT = [
    Shape("lstm", 1, 256, 64, 32),
    Shape("lstm", 1, 256, 32, 64),
    Shape("lstm", 1, 512, 32, 64),
    Shape("lstm", 2, 128, 64, 32),
    Shape("lstm", 2, 256, 64, 64),
    Shape("gru", 1, 256, 64, 32),
    Shape("gru", 1, 512, 32, 64),
    Shape("rnn", 1, 256, 64, 32),
]
FULL = [
    Shape(*values)
    for values in itertools.product(
        ("rnn", "lstm", "gru"), (1, 2), (128, 256, 512), (32, 64), (32, 64)
    )
]


def tokens():
    import numpy as np

    return np.random.default_rng(0).integers(0, VOCABULARY, 1_000_000).astype(np.uint8)


def chargen_configs(shape: Shape, precision: str = "float32"):
    from chargen.config import ModelConfig, TrainingConfig

    return (
        ModelConfig(VOCABULARY, shape.cell, shape.units, shape.layers, EMBEDDING),
        TrainingConfig(
            batch_size=shape.batch,
            sequence_length=shape.steps,
            learning_rate=1e-3,
            steps=10**9,
            precision=precision,
        ),
    )


def chargen_network(shape: Shape, precision: str = "float32"):
    from chargen.training.backend import ensure_backend

    ensure_backend()
    from chargen.training.building import compiled
    from chargen.training.network import build_network

    model, config = chargen_configs(shape, precision)
    trainee, schedule = compiled(build_network(model), model, config)
    schedule.total.assign(10**9)
    return trainee


def chargen_worker(shape: Shape, precision: str = "float32"):
    trainee = chargen_network(shape, precision)
    from chargen.training.pipeline import dataset
    from chargen.windows import windows_of

    data = dataset(windows_of(tokens(), chargen_configs(shape)[1]))
    return lambda steps: trainee.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False)


def bare_worker(shape: Shape):
    """The compiled step of chargen on one constant batch, without `fit` around it."""
    trainee = chargen_network(shape)
    import tensorflow as tf

    from chargen.windows import windows_of

    batch = windows_of(tokens(), chargen_configs(shape)[1]).batch(0)
    ids, targets = (tf.constant(part.T.astype("int32")) for part in batch[:2])
    carry = tf.constant(batch.carry.astype("float32"))
    data = iter(tf.data.Dataset.from_tensors(((ids, carry), targets)).repeat())
    trainee.make_train_function()

    def run(steps: int) -> None:
        for _ in range(steps):
            logs = trainee.train_function(data)
        float(logs["loss"])  # waits for the last step

    return run


def keras_worker(shape: Shape, jit_compile: bool):
    from chargen.training.backend import ensure_backend

    ensure_backend()
    import keras
    import tensorflow as tf

    from chargen.windows import Streams

    layer = {
        "rnn": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,
    }[shape.cell]
    network = keras.Sequential(
        [
            keras.Input(batch_shape=(shape.batch, shape.steps), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, EMBEDDING),
            *[
                layer(shape.units, return_sequences=True, stateful=True)
                for _ in range(shape.layers)
            ],
            keras.layers.Dense(VOCABULARY),
        ]
    )
    network.compile(
        optimizer=keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    windows = Streams(tokens(), shape.batch, shape.steps, 0)
    batches = [windows.batch(step) for step in range(int(windows.steps_per_epoch))]
    inputs = tf.data.Dataset.from_tensor_slices(
        ([b.inputs.astype("int32") for b in batches], [b.targets.astype("int32") for b in batches])
    )
    data = inputs.repeat().prefetch(tf.data.AUTOTUNE)
    return lambda steps: network.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False)


def torch_worker(shape: Shape):
    import torch
    from torch import nn

    from chargen.windows import Streams

    layer = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[shape.cell]
    embedding = nn.Embedding(VOCABULARY, EMBEDDING)
    body = layer(EMBEDDING, shape.units, shape.layers)
    head = nn.Linear(shape.units, VOCABULARY)
    parameters = [*embedding.parameters(), *body.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3)
    windows = Streams(tokens(), shape.batch, shape.steps, 0)
    state, step = None, 0

    def run(steps: int) -> None:
        nonlocal state, step
        for _ in range(steps):
            batch = windows.batch(step)
            step += 1
            inputs = torch.from_numpy(batch.inputs.T.astype("int64"))
            targets = torch.from_numpy(batch.targets.T.astype("int64"))
            outputs, state = body(embedding(inputs), state)
            state = tuple(s.detach() for s in state) if shape.cell == "lstm" else state.detach()
            loss = nn.functional.cross_entropy(
                head(outputs).reshape(-1, VOCABULARY), targets.reshape(-1)
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    return run


def peak_worker():
    """Best GFLOP/s of a large float32 product, in TensorFlow and in NumPy."""
    from chargen.training.backend import ensure_backend

    ensure_backend()
    import numpy as np
    import tensorflow as tf

    x = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    y = tf.constant(x)
    product = tf.function(lambda: tf.matmul(y, y))

    def measure(_: str) -> float:
        best = 0.0
        for multiply in (lambda: x @ x, lambda: product().numpy()):
            multiply()
            for _ in range(5):
                began = time.perf_counter()
                multiply()
                best = max(best, 2 * 2048**3 / (time.perf_counter() - began) / 1e9)
        return best

    serve(measure)


def worker(name: str, shape: Shape) -> None:
    makers = {
        "chargen": lambda: chargen_worker(shape),
        "bfloat16": lambda: chargen_worker(shape, "bfloat16"),
        "bare": lambda: bare_worker(shape),
        "graph": lambda: keras_worker(shape, False),
        "xla": lambda: keras_worker(shape, True),
        "torch": lambda: torch_worker(shape),
    }
    run = makers[name]()

    def learned(steps: int) -> int:
        run(steps)
        return steps * shape.batch * shape.steps

    serve_rate(learned, SECONDS)


def compare(shapes: list[Shape], rounds: int) -> list[dict]:
    names = ["chargen", "bare", "graph", "xla"]
    if importlib.util.find_spec("torch"):
        names.append("torch")
    results = []
    peak = Contender("throughput.py", ["peak", "-"])
    for shape in shapes:
        contenders = {
            name: Contender("throughput.py", [name, ",".join(map(str, shape))]) for name in names
        }
        found = in_turn({**contenders, "peak": peak}, "go", rounds)
        for contender in contenders.values():
            contender.close()
        speed = {name: statistics.median(found[name]) for name in names}
        stock = "graph" if speed["graph"] >= speed["xla"] else "xla"
        flops = 6 * chargen_configs(shape)[0].num_parameters * speed["chargen"]
        results.append(
            {
                "shape": str(shape),
                "characters_per_second": speed,
                "over_keras": median_ratio(found["chargen"], found[stock]),
                "over_torch": median_ratio(found["chargen"], found["torch"])
                if "torch" in speed
                else None,
                "gflops": flops / 1e9,
                "peak_gflops": max(found["peak"]),
                "share_of_peak": flops / 1e9 / max(found["peak"]),
                "share_of_fit": 1 - median_ratio(found["chargen"], found["bare"]),
            }
        )
    peak.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the whole grid of shapes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, values = arguments.worker
        if name == "peak":
            peak_worker()
        else:
            cell, *numbers = values.split(",")
            worker(name, Shape(cell, *map(int, numbers)))
        return
    results = compare(FULL if arguments.full else DEFAULT, arguments.rounds)
    rows = [
        [
            result["shape"],
            *[
                f"{result['characters_per_second'].get(name, 0):,.0f}"
                for name in ("chargen", "graph", "xla", "torch")
            ],
            f"{result['over_keras']:.2f}",
            "-" if result["over_torch"] is None else f"{result['over_torch']:.2f}",
            f"{result['share_of_peak']:.2f}",
            f"{result['share_of_fit']:.1%}",
        ]
        for result in results
    ]
    means = [
        statistics.geometric_mean(result[key] for result in results) if results[0][key] else None
        for key in ("over_keras", "over_torch")
    ]
    rows.append(
        [
            "geometric mean",
            "",
            "",
            "",
            "",
            *["-" if m is None else f"{m:.2f}" for m in means],
            "",
            "",
        ]
    )
    show(
        "Training, characters a second",
        [
            "shape",
            "chargen",
            "Keras graph",
            "Keras XLA",
            "PyTorch",
            "/ Keras",
            "/ PyTorch",
            "of peak",
            "fit",
        ],
        rows,
    )
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
