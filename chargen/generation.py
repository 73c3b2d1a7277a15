"""The sampling loop: a prompt in, token after token out.

A model trained with carried state reads on from its state; one trained on windows sees, at every
step, the last ``window`` tokens from zero state, as in the textbook. This room knows nothing of
the terminal, and an index is all it knows of a character.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.engine import Engine
from chargen.sampling import Sampler

__all__ = ["generate_tokens"]


def generate_tokens(
    engine: Engine,
    prompt: NDArray[np.integer[Any]],
    sampler: Sampler,
    *,
    window: int | None = None,
) -> Iterator[int]:
    """Tokens after ``prompt`` (T,), without end.

    An empty prompt starts from zero state, which knows only how frequent each token is.
    ``window`` None carries the state; a number rolls a window of that many tokens forward.
    """
    state = engine.zero_state()
    logits = _read(engine, state, prompt if window is None else prompt[-window:])
    if window is None:
        while True:
            token = sampler(logits)
            yield token
            logits = engine.step(state, token)
    recent = [int(token) for token in prompt[-window:]]
    while True:
        token = sampler(logits)
        yield token
        recent = [*recent, token][-window:]
        state.reset()
        logits = engine.prefill(state, np.asarray(recent))


def _read(engine: Engine, state: Any, tokens: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    return engine.prefill(state, tokens) if tokens.size else engine.logits(state)
