"""What bfloat16 products gain and cost: the measurements behind ``--precision auto``.

    python tests/benchmarks/precision.py [--rounds N] [--corpus FILE --steps N] [--json FILE]

Steps a second in bfloat16 over float32, pairs in turn, for shapes on both sides of the policy of
``chargen/training/precision.py``; and with ``--corpus``, held-out nats after equal steps of 512
units, everything else alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from harness import Contender, in_turn, median_ratio, show, write_json
from throughput import Shape

SHAPES = [
    Shape("lstm", 1, 256, 64, 32),
    Shape("lstm", 1, 512, 32, 64),
    Shape("lstm", 1, 512, 64, 32),
    Shape("lstm", 1, 1024, 64, 32),
    Shape("gru", 1, 512, 64, 32),
    Shape("rnn", 1, 512, 64, 32),
]


def compare(shape: Shape, rounds: int) -> dict:
    from chargen.config import ModelConfig
    from chargen.training.precision import automatic_precision

    contenders = {
        name: Contender("throughput.py", [worker, ",".join(map(str, shape))])
        for name, worker in (("float32", "chargen"), ("bfloat16", "bfloat16"))
    }
    found = in_turn(contenders, "go", rounds)
    for contender in contenders.values():
        contender.close()
    model = ModelConfig(65, shape.cell, shape.units, shape.layers)
    return {
        "shape": str(shape),
        "characters_per_second": {name: statistics.median(found[name]) for name in found},
        "ratio": median_ratio(found["bfloat16"], found["float32"]),
        "auto": automatic_precision(model, shape.batch),
    }


def cost(corpus: str, steps: int) -> dict:
    import chargen

    nats = {}
    for precision in ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as folder:
            model = chargen.train(
                corpus,
                output=Path(folder) / "model.keras",
                units=512,
                steps=steps,
                validate_every=steps,
                precision=precision,
            )
        nats[precision] = model.training["held_out"]["nats_per_char"]
    return {"steps": steps, **nats, "cost": nats["bfloat16"] - nats["float32"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--corpus", help="measure the cost in nats on this text too (minutes)")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    arguments = parser.parse_args()
    results = [compare(shape, arguments.rounds) for shape in SHAPES]
    show(
        "bfloat16 over float32, characters a second",
        ["shape", "float32", "bfloat16", "ratio", "auto"],
        [
            [
                result["shape"],
                *(f"{speed:,.0f}" for speed in result["characters_per_second"].values()),
                f"{result['ratio']:.2f}",
                result["auto"],
            ]
            for result in results
        ],
    )
    quality = cost(arguments.corpus, arguments.steps) if arguments.corpus else None
    if quality is not None:
        show(
            f"Held-out nats after {quality['steps']:,} steps of LSTM 512",
            ["float32", "bfloat16", "cost"],
            [[f"{quality[name]:.4f}" for name in ("float32", "bfloat16", "cost")]],
        )
    write_json(arguments.json, {"speed": results, "quality": quality})


if __name__ == "__main__":
    main()
