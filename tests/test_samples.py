"""Many texts side by side against one at a time, and lines scored against single steps."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from networks import every_cell, fixed_engine, log_softmax, random_tensors, small_config

from chargen import passes
from chargen.archive import Archive
from chargen.config import SamplingConfig
from chargen.errors import UsageError
from chargen.evaluation import score_lines
from chargen.generation import StopRules
from chargen.model import Model
from chargen.vocabulary import Vocabulary

LETTERS = "\nabcdefg é"
EVERYTHING = SamplingConfig(0.9, 7, 0.95, 0.02, 1.2, 5)
WINDOWS = (None, 4)
UNKNOWN_NATS = math.log(0x110000)

every_window = pytest.mark.parametrize("window", WINDOWS)


@cache
def model_of(cell="gru", window=None, letters=LETTERS, seed=3) -> Model:
    vocabulary = Vocabulary.from_text(letters)
    config = small_config(cell, 2, vocabulary_size=len(vocabulary))
    training = {} if window is None else {"objective": "last", "sequence_length": window}
    tensors = random_tensors(config, seed, scale=0.5)
    return Model(Archive({}, config, vocabulary, training, [], tensors))


def texts(model, num_samples, random_seed=0, length=30, **options):
    rules = options.pop("rules", StopRules(length))
    found = model.samples(
        "abc", num_samples=num_samples, random_seed=random_seed, rules=rules, **options
    )
    return list(found)


# samples


@every_window
@every_cell
def test_text_i_is_text_0_of_the_random_seed_plus_i(cell, window):
    model = model_of(cell, window)
    found = texts(model, 6, 40, sampling=EVERYTHING)
    assert [text.random_seed for text in found] == list(range(40, 46))
    assert len({text.data for text in found}) == 6
    for text in found:
        assert texts(model, 1, text.random_seed, sampling=EVERYTHING) == [text]


@every_window
@every_cell
def test_more_texts_change_none(cell, window):
    model = model_of(cell, window)
    rules = StopRules(60, (b"ab", b"e"))  # so that some end early and the batch shrinks
    most = texts(model, 70, rules=rules, scored=True)
    assert len({text.tokens for text in most}) > 5
    for fewer in (1, 2, 5, 64, 65):
        found = texts(model, fewer, rules=rules, scored=True)
        assert [replace(text, nats=None) for text in found] == [
            replace(text, nats=None) for text in most[:fewer]
        ]
        nats = [text.nats for text in most[:fewer]]
        assert [text.nats for text in found] == pytest.approx(nats, rel=1e-5)


@every_window
@every_cell
def test_a_text_of_many_is_the_text_of_pieces(cell, window):
    model = model_of(cell, window)
    for rules in (StopRules(50), StopRules(50, (b"a",), True), StopRules(80, lines=2)):
        for text in texts(model, 5, 7, rules=rules, sampling=EVERYTHING, ban="é"):
            alone = list(
                model.pieces(
                    "abc",
                    rules=rules,
                    sampling=EVERYTHING,
                    ban="é",
                    random_seed=text.random_seed,
                )
            )
            assert b"".join(piece.data for piece in alone) == text.data
            assert len(alone) == text.tokens


@every_window
def test_finish_reasons_and_lengths(window):
    model = model_of("lstm", window)
    for text in texts(model, 50, rules=StopRules(15, (b"bc",), lines=2)):
        assert text.tokens <= 15
        if text.finish_reason == "lines":
            assert text.data.endswith(b"\n")
            assert text.data.count(b"\n") == 2
        elif text.finish_reason == "length":
            assert (text.tokens, len(text.data.decode())) == (15, 15)
        assert b"bc" not in text.data
        if text.finish_reason == "stop":
            assert len(text.data.decode()) == text.tokens - 2
    reasons = {t.finish_reason for t in texts(model, 200, rules=StopRules(15, (b"bc",), lines=2))}
    assert reasons == {"length", "stop", "lines"}


@every_window
@every_cell
def test_nats_are_the_hand_sum_of_minus_log_softmax(cell, window):
    model = model_of(cell, window)
    for text in texts(model, 4, sampling=EVERYTHING, scored=True):
        seen = model.vocabulary.encode("abc").tolist()
        nats = 0.0
        for token in model.vocabulary.encode(text.data.decode()).tolist():
            read = np.array(seen if window is None else seen[-window:])
            logits = model.engine.prefill(model.engine.zero_state(), read)
            nats -= log_softmax(logits.astype(np.float64))[token]
            seen.append(token)
        assert text.nats == pytest.approx(nats, rel=1e-5)
        pieces = model.pieces(
            "abc",
            sampling=EVERYTHING,
            rules=StopRules(30),
            random_seed=text.random_seed,
        )
        assert sum(piece.surprisal for piece in pieces) == pytest.approx(nats, rel=1e-5)


def test_nats_are_none_unless_asked_for():
    assert {text.nats for text in texts(model_of(), 3)} == {None}


def test_a_length_of_0_draws_nothing():
    found = texts(model_of(), 3, 5, length=0, scored=True)
    assert [(t.data, t.finish_reason, t.tokens) for t in found] == [(b"", "length", 0)] * 3
    assert [text.random_seed for text in found] == [5, 6, 7]
    assert {t.finish_reason for t in texts(model_of(), 2, rules=StopRules(lines=0))} == {"lines"}


def test_a_text_comes_as_soon_as_it_and_those_before_it_have_ended():
    endless = model_of().samples("", num_samples=2, rules=StopRules(10**9, (b"a",)), random_seed=1)
    assert next(endless).finish_reason == "stop"


def test_texts_without_end_are_refused():
    with pytest.raises(UsageError, match="-n"):
        model_of().samples(rules=StopRules())


def test_without_a_random_seed_each_run_is_another():
    first, other = (texts(model_of(), 2, None) for _ in range(2))
    assert first[0].random_seed + 1 == first[1].random_seed
    assert first[0].random_seed != other[0].random_seed
    assert texts(model_of(), 2, first[0].random_seed) == first


def test_only_and_ban_hold_for_every_character():
    model = model_of()
    only = b"".join(text.data for text in texts(model, 3, only="abé☃", ban="b")).decode()
    assert set(only) == {"a", "é"}
    assert set(model.generate("abc", length=2000, temperature=3.0)) == set(LETTERS)
    with pytest.raises(UsageError, match="--only and --ban"):
        texts(model, 1, only="ab", ban="ba")
    with pytest.raises(UsageError, match="--only"):
        model.pieces(only="☃")


def test_stream_and_generate_stop_before_a_stop_string():
    model = model_of()
    same = {"length": 400, "random_seed": 2, "temperature": 2.0}
    whole = model.generate("abc", **same)
    assert "".join(model.stream("abc", **same)) == whole
    stopped = model.generate("abc", stop=["é", "☃"], **same)
    assert stopped == whole[: whole.index("é")]
    assert model.generate("abc", length=99, random_seed=2, top_k=1) == model.generate(
        "abc", length=99, temperature=0
    )


# lines


def by_steps(model: Model, line: str) -> tuple[float, int]:
    """The slow twin: nats and characters of one line, one step at a time."""
    engine, window, line_break = model.engine, model.window, model.vocabulary.line_break
    known = model.vocabulary.encode(line, unknown="skip").tolist()
    ends = [] if line_break is None else [line_break]
    nats, seen = UNKNOWN_NATS * (len(line) - len(known)), list(ends)
    for token in [*known, *ends]:
        state = engine.zero_state()
        logits = engine.logits(state)
        for read in seen if window is None else seen[-window:]:
            logits = engine.step(state, read)
        nats -= log_softmax(logits.astype(np.float64))[token]
        seen.append(token)
    return nats, len(line) + len(ends)


LINES = ["", "a", "abc", "☃", "a☃b☃", "é g", "abcdefg " * 3, "", "gfe", "dab" * 9]


@pytest.mark.parametrize("letters", (LETTERS, LETTERS.replace("\n", "")), ids=("break", "none"))
@every_window
@every_cell
def test_lines_are_scored_as_by_single_steps(cell, window, letters):
    model = model_of(cell, window, letters)
    expected = [by_steps(model, line) for line in LINES]
    found = model.score(LINES)
    assert [score.characters for score in found] == [characters for _, characters in expected]
    assert [score.nats for score in found] == pytest.approx([n for n, _ in expected], rel=1e-5)
    for line, (nats, characters) in zip(LINES, expected, strict=True):
        (alone,) = model.score([line])
        assert (alone.nats, alone.characters) == (pytest.approx(nats, rel=1e-5), characters)
        bits = nats / math.log(2) / max(characters, 1)
        assert alone.bits_per_char == pytest.approx(bits, rel=1e-5)


@pytest.mark.parametrize("letters", (LETTERS, LETTERS.replace("\n", "")), ids=("break", "none"))
@every_window
def test_many_lines_of_different_lengths(window, letters):
    model = model_of("gru", window, letters)
    rng = np.random.default_rng(5)
    lengths = rng.permutation([*range(64), *[0] * 20, *[1] * 20, *[64] * 40, 127, 128, 129, 130])
    lines = ["".join(rng.choice(list("abcdefg é☃"), length)) for length in lengths]
    found = model.score(lines)
    for line, score in list(zip(lines, found, strict=True))[::7]:
        nats, characters = by_steps(model, line)
        assert (score.nats, score.characters) == (pytest.approx(nats, rel=1e-5), characters)
    reversed_ = model.score(lines[::-1])[::-1]
    assert [s.nats for s in found] == pytest.approx([s.nats for s in reversed_], rel=1e-5)
    alone = [model.score([line])[0].nats for line in lines]
    assert [score.nats for score in found] == pytest.approx(alone, rel=1e-5)


def test_lines_of_a_small_budget_of_memory_are_the_same(monkeypatch):
    model = model_of("lstm")
    lines = ["abc" * number for number in range(30)]
    expected = [score.nats for score in model.score(lines)]
    monkeypatch.setattr(passes, "_LARGEST_LOGITS", 100)
    assert [s.nats for s in model.score(lines)] == pytest.approx(expected, rel=1e-5)


def test_a_line_by_hand():
    """Of p = 1/2, 1/4, 1/4: 'ab' and its line break cost 2 + 2 + 1 bits, whatever came before."""
    engine = fixed_engine([math.log(2), 0.0, 0.0])
    (score,) = score_lines(engine, [np.array([1, 2])], [0], line_break=0)
    assert (score.characters, score.bits_per_char) == (3, pytest.approx(5 / 3))
    (score,) = score_lines(engine, [np.array([1, 2])], [1], line_break=None)
    assert (score.characters, score.nats) == (
        3,
        pytest.approx(4 * math.log(2) + math.log(1114112)),
    )


def test_no_lines_have_no_scores():
    assert model_of().score([]) == []


def test_a_byte_model_scores_bytes():
    config = small_config("rnn", vocabulary_size=256)
    model = Model(Archive({}, config, Vocabulary.of_bytes(), {}, [], random_tensors(config)))
    found = model.score(["é", b"\xc3\xa9", b"\xff", ""])
    assert [score.characters for score in found] == [3, 3, 2, 1]
    assert found[0] == found[1]
