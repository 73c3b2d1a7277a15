"""The figure: fast path, sequential twin and windows against plain loops in float64."""

import bz2
import gzip
import lzma
import math
import threading
from functools import cache

import numpy as np
import pytest
from networks import (
    every_cell,
    fixed_engine,
    random_engine,
    random_tensors,
    random_tokens,
    small_config,
    stock_network,
    tensors_of,
)
from test_ngrams import slow_bits

from chargen import blas, evaluation, passes
from chargen.archive import Archive
from chargen.compressors import added_bytes
from chargen.engine import Engine
from chargen.errors import TextError
from chargen.evaluation import (
    Evaluation,
    baselines,
    evaluate,
    expectations,
    surprisal_bits,
    surprisal_blocks,
)
from chargen.model import Model
from chargen.vocabulary import Vocabulary

BITS = 1e-4  # what the design promises
LONGEST = {"rnn": 70_000, "lstm": 5000, "gru": 5000}
SIZES = (2, 3, 511, 512, 513, 514, 515, 1024, 1025, 1026, 5000)


@cache
def realistic_engine(cell):
    """Orthogonal recurrent kernels, Glorot kernels and the forget bias as they are born, a little
    noise on everything else, and characters far enough apart to be told from each other."""
    config = small_config(cell, 2, vocabulary_size=30, units=16, embedding_dim=8)
    tensors = tensors_of(stock_network(config))
    for name, noise in random_tensors(config, scale=0.1).items():
        if not name.endswith("recurrent_kernel"):
            tensors[name] += noise * (5 if name == "embedding" else 1)
    return Engine(config, tensors)


@cache
def text_of(cell):
    rng = np.random.default_rng(4)
    return np.minimum(rng.geometric(0.15, LONGEST[cell]) - 1, 29).astype(np.uint8)


def surprisal_in_float64(logits, target):
    logits = logits.astype(np.float64)
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target]


@cache
def by_steps(cell):
    """Surprisals in nats of the longest text's tokens from the second on, and the best guesses."""
    engine, text = realistic_engine(cell), text_of(cell)
    state, surprisals, guesses = engine.zero_state(), [], []
    for token, target in zip(text[:-1].tolist(), text[1:].tolist(), strict=True):
        logits = engine.step(state, token)
        surprisals.append(surprisal_in_float64(logits, target))
        guesses.append(logits.argmax())
    return np.array(surprisals), np.array(guesses)


def blas_threads():
    openblas = blas._openblas()
    return None if openblas is None else openblas.get_num_threads()


def laid_out(engine, tokens, **options):
    """Surprisals and hits by position, once it is sure that each position came exactly once."""
    blocks = list(surprisal_blocks(engine, tokens, **options))
    for positions, surprisals, hits in blocks:
        assert positions.shape == surprisals.shape == hits.shape
        assert positions.size > 0
    positions, surprisals, hits = (
        np.concatenate([np.ravel(b[i]) for b in blocks]) for i in range(3)
    )
    order = np.argsort(positions)
    np.testing.assert_array_equal(positions[order], np.arange(1, tokens.size))
    assert (surprisals >= 0).all()
    return surprisals[order], hits[order]


def assert_is_the_figure_of_the_loop(cell, size):
    engine, tokens = realistic_engine(cell), text_of(cell)[:size]
    expected, guesses = (part[: size - 1] for part in by_steps(cell))
    hits = int((guesses == tokens[1:]).sum())
    found = evaluate(engine, tokens)
    assert found.characters == size - 1
    assert found.bits_per_char == pytest.approx(expected.mean() / math.log(2), abs=BITS)
    assert abs(found.hits - hits) <= 1e-4 * size  # where two are all but equally likely
    surprisals, _ = laid_out(engine, tokens)
    np.testing.assert_allclose(surprisals, expected, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
@every_cell
def test_the_fast_path_is_a_plain_loop(cell, size):
    assert_is_the_figure_of_the_loop(cell, size)


@pytest.mark.parametrize("size", (64 * 512, 64 * 512 + 1, 64 * 512 + 2, 70_000))
def test_64_streams_and_what_is_left_are_a_plain_loop(size):
    assert_is_the_figure_of_the_loop("rnn", size)


@pytest.mark.parametrize("size", (2, 64, 65, 66, 5000))
@every_cell
def test_the_sequential_twin_is_a_plain_loop(cell, size):
    engine, tokens = realistic_engine(cell), text_of(cell)[:size]
    expected, _ = by_steps(cell)
    surprisals, hits = laid_out(engine, tokens, sequential=True)
    np.testing.assert_allclose(surprisals, expected[: size - 1], atol=1e-5)
    assert hits.sum() == pytest.approx(evaluate(engine, tokens).hits, abs=1)


def test_the_fast_path_agrees_with_the_sequential_twin_on_a_long_text():
    engine, tokens = realistic_engine("rnn"), text_of("rnn")
    slow, _ = laid_out(engine, tokens, sequential=True)
    twin = slow.sum(dtype=np.float64) / (tokens.size - 1) / math.log(2)
    assert evaluate(engine, tokens).bits_per_char == pytest.approx(twin, abs=BITS)


@pytest.mark.parametrize(
    ("window", "size"),
    [
        *((1, size) for size in (2, 3, 40)),
        *((5, size) for size in (2, 5, 6, 7, 5 + 512, 5 + 513, 5 + 514)),
        *((40, size) for size in (39, 40, 41, 42)),
    ],
)
@every_cell
def test_windowed_evaluation_is_a_plain_loop(cell, window, size):
    engine, tokens = realistic_engine(cell), text_of(cell)[:size]
    expected, hits = [], 0
    for position in range(1, size):
        seen = tokens[max(0, position - window) : position]
        logits = engine.prefill(engine.zero_state(), seen)
        expected.append(surprisal_in_float64(logits, tokens[position]))
        hits += logits.argmax() == tokens[position]
    found = evaluate(engine, tokens, window=window)
    assert (found.hits, found.characters) == (hits, size - 1)
    assert found.nats == pytest.approx(sum(expected), rel=1e-5)
    surprisals, _ = laid_out(engine, tokens, window=window)
    np.testing.assert_allclose(surprisals, expected, atol=1e-5)


@pytest.mark.parametrize("threads", (1, 2, 3, 40))
@pytest.mark.parametrize("options", ({}, {"window": 5}), ids=str)
def test_threads_change_nothing(threads, options, monkeypatch):
    """More streams on more threads, and different lengths of them, give the same figure."""
    engine, tokens = realistic_engine("rnn"), text_of("rnn")[: 3000 if options else 70_000]
    slow, hits = laid_out(engine, tokens, sequential=not options, **options)
    monkeypatch.setattr(blas, "num_threads", lambda: threads)
    at_work = set()
    body_run = engine.body.run

    def run(state, tokens):
        at_work.add(threading.get_ident())
        return body_run(state, tokens)

    monkeypatch.setattr(engine.body, "run", run)
    found, found_hits = laid_out(engine, tokens, **options)
    np.testing.assert_allclose(found, slow, atol=1e-3)
    assert abs(int(found_hits.sum()) - int(hits.sum())) <= 1e-4 * tokens.size
    bits = found.sum(dtype=np.float64) / (tokens.size - 1) / math.log(2)
    assert bits == pytest.approx(slow.mean(dtype=np.float64) / math.log(2), abs=BITS)
    assert len(at_work) > 1 if threads > 1 else at_work == {threading.get_ident()}


@pytest.mark.parametrize("options", ({}, {"window": 5}), ids=str)
def test_an_error_on_a_thread_is_told_and_blas_is_as_before(options, monkeypatch):
    engine, tokens = realistic_engine("rnn"), text_of("rnn")[:40_000].copy()
    monkeypatch.setattr(blas, "num_threads", lambda: 2)
    before = blas_threads()
    with pytest.raises(ZeroDivisionError):
        for positions, *_ in surprisal_blocks(engine, tokens, **options):
            if positions.max() > 2000:
                monkeypatch.setattr(engine.body, "run", lambda *_: 1 / 0)
    assert blas_threads() == before


@pytest.mark.parametrize("options", ({}, {"sequential": True}, {"window": 5}), ids=str)
def test_a_large_vocabulary_is_read_in_smaller_blocks(options, monkeypatch):
    engine, tokens = realistic_engine("rnn"), text_of("rnn")[:1300]
    expected, _ = laid_out(engine, tokens, **options)
    monkeypatch.setattr(passes, "_LARGEST_LOGITS", 30 * 2 * 7)
    blocks = surprisal_blocks(engine, tokens, **options)
    assert max(positions.size for positions, _, _ in blocks) <= 2 * 7
    found, _ = laid_out(engine, tokens, **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_window_and_carried_state_say_different_things():
    engine, tokens = realistic_engine("rnn"), text_of("rnn")[:3000]
    windowed = evaluate(engine, tokens, window=2).bits_per_char
    assert abs(windowed - evaluate(engine, tokens).bits_per_char) > 10 * BITS


@pytest.mark.parametrize("size", (100, 3000))
def test_evaluation_leaves_nothing_behind(size):
    engine = random_engine(config := small_config("lstm"))
    tokens = random_tokens(config, size)
    tokens.flags.writeable = False
    assert evaluate(engine, tokens) == evaluate(engine, tokens)


@every_cell
def test_bits_nats_and_perplexity_are_one_figure(cell):
    engine, tokens = realistic_engine(cell), text_of(cell)[:600]
    found = evaluate(engine, tokens)
    assert found.nats_per_char == pytest.approx(found.nats / 599)
    assert found.bits_per_char == pytest.approx(found.nats_per_char / math.log(2))
    assert found.perplexity == pytest.approx(2**found.bits_per_char)
    assert found.accuracy == pytest.approx(found.hits / 599)
    assert found.to_dict() == {
        "bits_per_char": found.bits_per_char,
        "nats_per_char": found.nats_per_char,
        "perplexity": found.perplexity,
        "accuracy": found.accuracy,
        "characters": 599,
        "skipped": 0,
    }


def test_the_figure_is_summed_then_divided_once():
    found = Evaluation(nats=8 * math.log(2), hits=1, characters=4, skipped=3)
    assert (found.bits_per_char, found.accuracy) == (pytest.approx(2), 0.25)
    assert found.perplexity == pytest.approx(4)


@pytest.mark.parametrize("options", ({}, {"window": 5}))
@pytest.mark.parametrize("size", (2, 100, 2000))
def test_a_fixed_distribution_by_hand(size, options):
    """Of p = 1/2, 1/4, 1/4 every token costs 1, 2 or 2 bits, whatever came before it."""
    tokens = np.arange(size) % 3
    found = evaluate(fixed_engine([math.log(2), 0.0, 0.0]), tokens, **options)
    bits = np.array([1, 2, 2])[tokens[1:]]
    assert found.bits_per_char == pytest.approx(bits.mean(), rel=1e-6)
    assert found.hits == (tokens[1:] == 0).sum()


@pytest.mark.parametrize("options", ({}, {"window": 5}))
@pytest.mark.parametrize("size", (2, 2000))
def test_a_perfect_model_is_never_surprised(size, options):
    found = evaluate(fixed_engine([0.0, 200.0, 0.0]), np.ones(size, np.uint8), **options)
    assert (found.nats, found.bits_per_char, found.perplexity, found.accuracy) == (0, 0, 1, 1)


@pytest.mark.parametrize("options", ({}, {"window": 5}))
@pytest.mark.parametrize("size", (2, 2000))
def test_a_terrible_model_has_a_finite_figure(size, options):
    found = evaluate(fixed_engine([0.0, -2000.0, 0.0]), np.ones(size, np.uint8), **options)
    assert found.nats_per_char == pytest.approx(2000 + math.log(2))
    assert found.accuracy == 0
    assert 1e300 < found.perplexity < math.inf


@pytest.mark.parametrize("size", (0, 1))
@pytest.mark.parametrize("window", (None, 5))
def test_there_is_no_figure_of_less_than_two_tokens(size, window):
    with pytest.raises(TextError, match=f"holds {size} .* at least 2"):
        evaluate(fixed_engine([0.0, 0.0]), np.zeros(size, np.uint8), window=window)


@pytest.mark.parametrize("text", ("", "a"))
def test_a_model_says_in_one_line_that_a_text_is_too_short(text):
    config = small_config("rnn", vocabulary_size=3)
    vocabulary = Vocabulary.from_text("abc")
    model = Model(Archive({}, config, vocabulary, {}, [], random_tensors(config)))
    with pytest.raises(TextError, match=f"holds {len(text)} .* at least 2") as caught:
        model.evaluate(text)
    assert "\n" not in str(caught.value)
    assert model.evaluate("ab").characters == 1


# surprisal, character by character


@pytest.mark.parametrize("window", (None, 5))
@pytest.mark.parametrize("size", (2, 600, 2000))
def test_surprisals_in_bits_are_those_of_the_figure(size, window):
    engine, tokens = realistic_engine("gru"), text_of("gru")[:size]
    bits = surprisal_bits(engine, tokens, window=window)
    assert bits.shape == tokens.shape
    assert np.isnan(bits[0])
    assert bits[1:].mean() == pytest.approx(
        evaluate(engine, tokens, window=window).bits_per_char, rel=1e-6
    )
    nats, _ = laid_out(engine, tokens, window=window)
    np.testing.assert_allclose(bits[1:] * math.log(2), nats, rtol=1e-6)


def test_there_is_no_surprisal_in_less_than_two_tokens():
    with pytest.raises(TextError, match=r"holds 1 .* at least 2"):
        surprisal_bits(fixed_engine([0.0, 0.0]), np.zeros(1, np.uint8))


# what a model expected


def slow_expectation(engine, before, count):
    """By a plain loop in float64: the likeliest indices after ``before``, and their shares."""
    state = engine.zero_state()
    for token in before.tolist():
        logits = engine.step(state, token).astype(np.float64)
    exponentials = [math.exp(logit - logits.max()) for logit in logits.tolist()]
    shares = {index: one / sum(exponentials) for index, one in enumerate(exponentials)}
    return sorted(shares.items(), key=lambda item: -item[1])[:count]


@pytest.mark.parametrize("window", (None, 5))
@every_cell
def test_expectations_are_those_of_a_plain_loop(cell, window):
    engine, tokens = realistic_engine(cell), text_of(cell)[:1500]
    indices, probabilities = expectations(engine, tokens, 3, window=window)
    assert indices.shape == probabilities.shape == (1500, 3)
    assert np.isnan(probabilities[0]).all()
    for place in (1, 2, 5, 6, 7, 700, 1023, 1024, 1499):
        start = 0 if window is None else max(0, place - window)
        expected = slow_expectation(engine, tokens[start:place], 3)
        assert indices[place].tolist() == [index for index, _ in expected]
        assert probabilities[place] == pytest.approx([share for _, share in expected], abs=1e-4)


@pytest.mark.parametrize("window", (None, 5))
def test_expectations_are_of_one_mind_with_the_surprisals(window):
    engine, tokens = realistic_engine("gru"), text_of("gru")[:1200]
    indices, probabilities = expectations(engine, tokens, 30, window=window)
    assert (np.sort(indices[1:], axis=1) == np.arange(30)).all()
    assert (np.diff(probabilities[1:], axis=1) <= 1e-7).all()
    np.testing.assert_allclose(probabilities[1:].sum(axis=1), 1, atol=1e-5)
    of_the_text = probabilities[1:][indices[1:] == tokens[1:, np.newaxis]]
    bits = surprisal_bits(engine, tokens, window=window)[1:]
    np.testing.assert_allclose(-np.log2(of_the_text), bits, atol=1e-5)


def test_a_small_vocabulary_has_no_more_to_expect():
    indices, probabilities = expectations(fixed_engine([1.0, 1.0]), np.zeros(3, np.uint8), 3)
    assert indices[1:].tolist() == [[0, 1]] * 2
    assert probabilities[1:] == pytest.approx(np.full((2, 2), 0.5))
    with pytest.raises(TextError, match=r"holds 1 .* at least 2"):
        expectations(fixed_engine([0.0, 0.0]), np.zeros(1, np.uint8), 3)


# what a model is compared with

COMPRESSORS = {
    "gzip": lambda data: gzip.compress(data, 9),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
NAMES = ["uniform", *(f"{order}-gram" for order in range(1, 7)), *COMPRESSORS]
FABLE = "The wolf said to the crane: “Thank you for nothing.”\n" * 3 + "The wolf was ill. Ça va.\n"
TRAINING = "A crane and a wolf, the wolf and the crane; naïve “crane”.\n" * 20 + "The wolf said\n"


@pytest.mark.parametrize("kind", ("char", "byte"))
@pytest.mark.parametrize("piece", (1, 7, 1 << 20))
def test_baselines_are_those_of_the_slow_twins(kind, piece, monkeypatch):
    """n-grams in dictionaries, compressors on whole strings; of characters 2 to N alone."""
    monkeypatch.setattr(evaluation, "_PIECE", piece)
    vocabulary = Vocabulary.of_bytes() if kind == "byte" else Vocabulary.from_text(TRAINING + FABLE)
    text, training = vocabulary.encode(FABLE), vocabulary.encode(TRAINING)
    found = baselines(text, vocabulary, training)
    assert list(found) == NAMES
    assert found["uniform"] == pytest.approx(math.log2(len(vocabulary)))

    grams = slow_bits(training.tolist(), text.tolist(), len(vocabulary), 6).mean(axis=1)
    assert [found[name] for name in NAMES[1:7]] == pytest.approx(grams.tolist(), abs=1e-9)

    given, whole = (TRAINING + FABLE[0]).encode(), (TRAINING + FABLE).encode()
    for name, compress in COMPRESSORS.items():
        added = len(compress(whole)) - len(compress(given))
        assert found[name] == pytest.approx(8 * added / (text.size - 1)), name


def test_without_training_text_a_model_is_compared_with_a_uniform_choice_alone():
    tokens = np.array([0, 1, 2])
    assert baselines(tokens, Vocabulary.from_text("abcdefgh")) == {"uniform": 3}


@pytest.mark.parametrize("text", ("aba", "a" * 5000))
def test_baselines_of_little_or_dull_text_are_numbers(text):
    vocabulary = Vocabulary.from_text("ab")
    found = baselines(vocabulary.encode(text), vocabulary, vocabulary.encode("abba"))
    assert list(found) == NAMES
    assert all(math.isfinite(bits) for bits in found.values())
    if len(text) > 3:
        assert found["xz"] < 0.2


def test_a_text_never_makes_a_compressed_file_smaller():
    """As bzip2 tells it, for it then splits its block in another way."""
    given, text = TRAINING[:56].encode(), b"crane"
    assert len(bz2.compress(given + text)) < len(bz2.compress(given))
    assert added_bytes([given], [text])["bz2"] == 0


def test_a_vocabulary_of_one_character_holds_no_bits():
    vocabulary = Vocabulary.from_text("a")
    found = baselines(vocabulary.encode("aaaa"), vocabulary, vocabulary.encode("aa"))
    assert [found[name] for name in NAMES[:7]] == pytest.approx([0] * 7)


@pytest.mark.parametrize(
    ("text", "training", "told"),
    [("", "ab", "holds 0"), ("a", "ab", "holds 1"), ("ab", "", "--train-text: holds no character")],
)
def test_there_are_no_baselines_of_nothing(text, training, told):
    vocabulary = Vocabulary.from_text("ab")
    with pytest.raises(TextError, match=told) as caught:
        baselines(vocabulary.encode(text), vocabulary, vocabulary.encode(training))
    assert "\n" not in str(caught.value)


def test_a_model_tells_surprisals_and_baselines_of_its_own_characters():
    config = small_config("rnn", vocabulary_size=3)
    vocabulary = Vocabulary.from_text("abc")
    model = Model(Archive({}, config, vocabulary, {}, [], random_tensors(config)))
    bits = model.surprisal_bits("a☃bcab", unknown="skip")
    assert np.isnan(bits[0])
    assert bits[1:].mean() == pytest.approx(model.evaluate("abcab").bits_per_char, rel=1e-6)
    expected = baselines(vocabulary.encode("abcab"), vocabulary, vocabulary.encode("abab"))
    assert model.baselines("abcab", "ab☃ab") == expected
    assert model.baselines("abcab") == {"uniform": math.log2(3)}
    with pytest.raises(TextError, match="☃"):
        model.baselines("abc☃", "ab")
