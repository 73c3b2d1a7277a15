"""The sampling loop against its slow twins: all of the text, or a whole window, at every step."""

from itertools import islice

import numpy as np
import pytest
from networks import (
    every_cell,
    fixed_engine,
    random_engine,
    random_tensors,
    random_tokens,
    small_config,
    stock_logits,
    stock_network,
)

from chargen.config import SamplingConfig
from chargen.engine import Engine
from chargen.generation import generate_tokens
from chargen.sampling import Sampler

LENGTH = 60
EMPTY = np.array([], np.int32)

# The greedy continuation of [3, 1, 4] by `golden_network`, the same for ever and on every engine.
GOLDEN_PROMPT = [3, 1, 4]
GOLDEN = {
    "rnn": [9, 2, 1, 9, 1, 6, 7, 2, 1, 6, 3, 2, 1, 6, 3, 2, 3, 2, 6, 3, 6, 9, 2, 1],
    "lstm": [10, 10, 10, 10, 2, 9, 2, 10, 10, 10, 6, 0, 10, 9, 9, 9, 9, 9, 6, 10, 2, 9, 9, 9],
    "gru": [9, 9, 3, 4, 9, 3, 6, 4, 9, 3, 6, 4, 9, 3, 6, 9, 6, 4, 3, 3, 2, 6, 6, 6],
}


def sampler_of(temperature: float = 1.0, seed: int = 0) -> Sampler:
    return Sampler(SamplingConfig(temperature), np.random.default_rng(seed))


def generated(engine, prompt, temperature=1.0, seed=0, window=None, length=LENGTH):
    sampler = sampler_of(temperature, seed)
    tokens = generate_tokens(engine, prompt, sampler, window=window)
    return [token for token, _ in islice(tokens, length)]


def reread(engine, prompt, temperature=1.0, seed=0, window=None, length=LENGTH):
    """The textbook loop: from zero state, the whole text or its last ``window`` tokens again."""
    sampler = sampler_of(temperature, seed)
    text = prompt.tolist()
    for _ in range(length):
        seen = text if window is None else text[-window:]
        state = engine.zero_state()
        logits = engine.prefill(state, np.array(seen)) if seen else engine.logits(state)
        text.append(sampler(logits))
    return text[prompt.size :]


@pytest.mark.parametrize("temperature", (0.0, 0.7, 2.0))
@every_cell
def test_carried_state_equals_reading_the_whole_text_again(cell, temperature):
    engine = random_engine(config := small_config(cell, 2), seed=30, scale=1.0)
    prompt = random_tokens(config, 9)
    found = generated(engine, prompt, temperature)
    assert found == reread(engine, prompt, temperature)
    assert len(set(found)) > 1


@pytest.mark.parametrize("prompt_length", (1, 4, 5, 6, 30))
@every_cell
def test_a_rolling_window_equals_the_textbook_loop(cell, prompt_length):
    engine = random_engine(config := small_config(cell, 2), seed=30, scale=1.0)
    prompt = random_tokens(config, prompt_length)
    found = generated(engine, prompt, window=5)
    assert found == reread(engine, prompt, window=5)
    assert found != generated(engine, prompt)  # carried state says something else


@pytest.mark.parametrize("window", (1, 5, None))
@every_cell
def test_an_empty_prompt_starts_from_zero_state(cell, window):
    engine = random_engine(small_config(cell), seed=30, scale=1.0)
    assert generated(engine, EMPTY, window=window) == reread(engine, EMPTY, window=window)
    bias = random_tensors(small_config(cell), seed=30, scale=1.0)["head/bias"]
    assert generated(engine, EMPTY, 0.0, window=window, length=1) == [bias.argmax()]


def test_a_window_never_filled_equals_carried_state():
    engine = random_engine(config := small_config("gru"), seed=30, scale=1.0)
    prompt = random_tokens(config, 4)
    assert generated(engine, prompt, window=4 + LENGTH) == generated(engine, prompt)


def test_nothing_before_the_window_matters():
    engine = random_engine(config := small_config("gru", 2), seed=30, scale=1.0)
    prompt = random_tokens(config, 30)
    other = prompt.copy()
    other[:-6] = (other[:-6] + 1) % config.vocabulary_size
    assert generated(engine, prompt, window=6) == generated(engine, other, window=6)
    assert generated(engine, prompt) != generated(engine, other)


@pytest.mark.parametrize("window", (7, None))
def test_the_same_seed_gives_the_same_text(window):
    engine = random_engine(config := small_config("lstm"))
    prompt = random_tokens(config, 5)
    first, again, other = (generated(engine, prompt, seed=s, window=window) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_two_texts_of_one_engine_do_not_disturb_each_other():
    engine = random_engine(config := small_config("lstm"), seed=30, scale=1.0)
    prompts = random_tokens(config, 2, 5)
    streams = [generate_tokens(engine, prompt, sampler_of()) for prompt in prompts]
    mixed = [tuple(next(stream)[0] for stream in streams) for _ in range(LENGTH)]
    alone = [generated(engine, prompt) for prompt in prompts]
    assert list(zip(*mixed, strict=True)) == [tuple(text) for text in alone]


def test_the_prompt_stays_as_it_is():
    engine = random_engine(config := small_config("rnn"))
    prompt = random_tokens(config, 8)
    before = prompt.copy()
    prompt.flags.writeable = False
    generated(engine, prompt), generated(engine, prompt, window=3)
    np.testing.assert_array_equal(prompt, before)


@pytest.mark.parametrize("window", (3, None))
def test_tokens_are_plain_integers_without_end(window):
    tokens = generate_tokens(fixed_engine([0.0, 1.0]), EMPTY, sampler_of(), window=window)
    assert {type(token) for token, _ in islice(tokens, 2000)} == {int}


@pytest.mark.parametrize("window", (5, None))
@every_cell
def test_each_token_comes_with_the_logits_it_was_drawn_from(cell, window):
    engine = random_engine(config := small_config(cell, 2), seed=30, scale=1.0)
    text = random_tokens(config, 4).tolist()
    tokens = generate_tokens(engine, np.array(text), sampler_of(), window=window)
    pairs = list(islice(tokens, 20))  # all kept: none is a buffer that is written again
    for token, logits in pairs:
        seen = np.array(text if window is None else text[-window:])
        expected = engine.prefill(engine.zero_state(), seen)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        text.append(token)


def test_a_sure_model_repeats_itself():
    assert generated(fixed_engine([0.0, 100.0, 0.0]), EMPTY) == [1] * LENGTH


def test_no_token_is_drawn_before_it_is_asked_for():
    class Counting:
        calls = 0

        def __call__(self, logits):
            self.calls += 1
            return 0

    sampler = Counting()
    tokens = generate_tokens(fixed_engine([0.0, 0.0]), EMPTY, sampler)
    assert sampler.calls == 0
    next(tokens), next(tokens)
    assert sampler.calls == 2


def golden_network(cell):
    config = small_config(cell, 2)
    return config, random_tensors(config, seed=30, scale=3.0)


@every_cell
def test_the_golden_text(cell):
    engine = Engine(*golden_network(cell))
    assert generated(engine, np.array(GOLDEN_PROMPT), 0.0, length=24) == GOLDEN[cell]


@every_cell
def test_stock_keras_writes_the_golden_text(cell):
    network = stock_network(*golden_network(cell))
    text = list(GOLDEN_PROMPT)
    while len(text) < len(GOLDEN_PROMPT) + 24:
        logits = stock_logits(network, np.array(text)[:, np.newaxis])[-1, 0]
        runner_up, best = np.sort(logits)[-2:]
        assert best - runner_up > 0.02  # no coin is tossed
        text.append(int(logits.argmax()))
    assert text[len(GOLDEN_PROMPT) :] == GOLDEN[cell]
