"""Text that nobody vouches for, windows, samplers and stop rules, each against a naive twin."""

import codecs
import gzip
import itertools
import json
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import fixed_engine
from refusals import line_of
from test_sampling_filters import Chosen
from test_stop import searched

from chargen import corpus as corpus_module
from chargen import reading
from chargen.config import SamplingConfig
from chargen.corpus import encode_with, read_corpus, read_tokens
from chargen.errors import ChargenError, TextError
from chargen.generation import StopRules, generate_samples, generate_tokens
from chargen.permutation import Permutation
from chargen.sampling import (
    BatchSampler,
    Sampler,
    apply_min_p,
    apply_temperature,
    apply_top_k,
    apply_top_p,
)
from chargen.vocabulary import Vocabulary, bytes_of, describe_character
from chargen.windows import SlidingWindows, Streams, fitted_shape

# Line ends of every kind, NUL, escapes, a byte order mark, combining marks, joiners, right to left.
ODD = [*"\n\r\t\0\x0b\x1b\x7f\x85\x9b\xa0\u2028\u2029", *"\ufeff\ufffe\uffff\u0301\u20e3\ufe0f"]
ODD += [*"\u200d\u200f\u202e\u2066ש\u0644👨😀🏽", "\U000e0067", "\U0010ffff", "\ud7ff", "\ue000"]
SURROGATES = ["\ud800", "\udbff", "\udc80", "\udcff", "\udfff"]

odd_characters = st.sampled_from([*ODD, *"ab "]) | st.characters(exclude_categories=["Cs"])
hostile_texts = st.text(odd_characters | st.sampled_from(SURROGATES), max_size=40)
clean_texts = st.text(odd_characters, max_size=40)


def pieces_of(data: st.DataObject, text: Any) -> list[Any]:
    """``text`` cut at some places, or at none."""
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=5).map(sorted))
    return [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]


# vocabulary


@settings(deadline=None, max_examples=150)
@given(hostile_texts, hostile_texts)
def test_any_text_is_taken_or_refused_in_one_line(text, other):
    known = [c for c in text if not "\ud800" <= c <= "\udfff"]
    if known != list(text) or not text:
        with pytest.raises(TextError) as caught:
            Vocabulary.from_text(text)
        line_of(caught, 3)
    assume(known)
    vocabulary = Vocabulary.from_text("".join(known))
    missing = [place for place, c in enumerate(other) if c not in known]
    if missing:
        with pytest.raises(TextError) as caught:
            vocabulary.encode(other)
        named = describe_character(ord(other[missing[0]]))
        assert f"{named} at character {missing[0] + 1}" in line_of(caught, 3)
    kept = [c for c in other if c in known]
    assert vocabulary.encode(other, unknown="skip").tolist() == [
        sorted(set(known)).index(c) for c in kept
    ]
    assert vocabulary.decode(vocabulary.encode("".join(kept))) == "".join(kept)
    told = json.loads(json.dumps(vocabulary.to_dict()))
    assert Vocabulary.from_code_points([ord(c) for c in told["characters"]]) == vocabulary


@settings(deadline=None, max_examples=150)
@given(hostile_texts)
def test_a_byte_vocabulary_takes_any_text_but_a_surrogate_that_is_no_byte(text):
    vocabulary = Vocabulary.of_bytes()
    stray = [c for c in text if "\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff"]
    if stray:
        for refused in (
            lambda: vocabulary.encode(text),
            lambda: vocabulary.encode(text, unknown="skip"),
            lambda: read_corpus(text=text, tokens="byte"),
        ):
            with pytest.raises(TextError) as caught:
                refused()
            assert describe_character(ord(stray[0])) in line_of(caught, 3)
        return
    parts = [
        bytes([ord(c) & 0xFF]) if "\udc80" <= c <= "\udcff" else c.encode("utf-8") for c in text
    ]
    assert bytes_of(text) == b"".join(parts)
    assert bytes(vocabulary.encode(text).tolist()) == b"".join(parts)


@settings(deadline=None, max_examples=100)
@given(clean_texts.filter(bool), hostile_texts, st.data())
def test_text_may_be_cut_anywhere(known, text, data):
    vocabulary = Vocabulary.from_text(known)
    blocks = pieces_of(data, text)
    tokens, skipped = encode_with(blocks, vocabulary, unknown="skip")
    assert tokens.tolist() == vocabulary.encode(text, unknown="skip").tolist()
    assert skipped == len(text) - tokens.size
    if skipped:
        first = next(place for place, c in enumerate(text) if c not in known)
        with pytest.raises(TextError) as caught:
            encode_with(blocks, vocabulary)
        named = describe_character(ord(text[first]))
        assert f"{named} at character {first + 1}" in line_of(caught, 3)


@settings(deadline=None, max_examples=60)
@given(clean_texts.map(str.encode), st.data())
def test_bytes_may_be_cut_anywhere(text, data):
    tokens, skipped = encode_with(pieces_of(data, text), Vocabulary.of_bytes())
    assert (tokens.tolist(), skipped) == (list(text), 0)


# corpus

ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-32-be",
    "latin-1",
    "cp1252",
    "gb18030",
)
# What goes wrong in UTF-8: a lone continuation, overlong forms, a surrogate, what lies beyond, and
# characters that are cut short.
FRAGMENTS = [b"\x80", b"\xff", b"\xc0\x80", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
FRAGMENTS += [
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xef\xbb\xbf",
    b"\xef\xbb",
    b"\0",
    b"\n",
    b"\r\n",
    b"a",
]
FRAGMENTS += ["é😀\u0301".encode(), b"\xfe\xff", b"\xff\xfe"]

hostile_bytes = (
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=12)
    .map(b"".join)
    .filter(lambda data: data[:2] != b"\x1f\x8b")  # that is gzip
)


@st.composite
def files(draw: st.DrawFn, encoding: str) -> bytes:
    """The bytes of a file: rightly encoded, with a mark or two or none, or whatever came."""
    if draw(st.booleans()):
        return draw(hostile_bytes)
    text = draw(st.lists(clean_texts | st.just("ab\r\n"), max_size=4).map("".join))
    return codecs.encode(draw(st.sampled_from(["", "\ufeff"])) + text, encoding, "ignore")


def naively_decoded(data: bytes, encoding: str) -> str | None:
    """All at once, less a byte order mark; None where it cannot be."""
    if encoding == "utf-16" and data and data[:2] not in (b"\xfe\xff", b"\xff\xfe"):
        return None  # Python would guess
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if encoding in ("utf-8-sig", "utf-16") else text.removeprefix("\ufeff")


def in_small_pieces(patch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    patch.setattr(reading, "_BLOCK_BYTES", data.draw(st.integers(1, 9)))
    patch.setattr(corpus_module, "_SLICE", data.draw(st.integers(1, 9)))
    patch.setattr(corpus_module, "_DOCUMENTS", data.draw(st.integers(1, 3)))


def written(folder: str, contents: list[bytes], data: st.DataObject) -> list[Path]:
    paths = []
    for number, content in enumerate(contents):
        path = Path(folder, str(number))
        path.write_bytes(gzip.compress(content) if data.draw(st.booleans()) else content)
        paths.append(path)
    return paths


@settings(deadline=None, max_examples=300)
@given(st.data(), st.sampled_from(ENCODINGS), st.booleans())
def test_any_files_are_read_as_if_decoded_whole_or_refused(data, encoding, lines):
    contents = data.draw(st.lists(files(encoding), min_size=1, max_size=3))
    texts = [naively_decoded(content, encoding) for content in contents]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        in_small_pieces(patch, data)
        paths = written(folder, contents, data)
        fraction = data.draw(st.sampled_from([None, 0, 0.3]))
        options = {"encoding": encoding, "val_fraction": fraction, "lines": lines}
        try:
            corpus = read_corpus(paths, **options)
        except ChargenError as error:
            assert len(str(error).splitlines()) == 1
            corpus = None
    if any(text is None for text in texts):
        assert corpus is None
        return
    if lines:
        documents = [line for text in texts for line in naive_documents(text or "")]
        size = sum(map(len, documents))
    else:
        size = sum(len(text or "") for text in texts)
    if size < 2:
        assert corpus is None
        return
    assert corpus is not None
    parts = [corpus.vocabulary.decode(p) for p in (corpus.training_part, corpus.held_out_part)]
    if not lines:
        assert "".join(parts) == "".join(text or "" for text in texts)
        return
    read = [part.split("\n") for part in parts]
    assert all(rest == "" for *_, rest in read)
    assert Counter(line for part in read for line in part[:-1]) == Counter(
        line.removesuffix("\n") for line in documents
    )
    if fraction is not None and corpus.held_out_size:
        assert len(read[1]) - 1 == math.ceil(len(documents) * Fraction(str(fraction)))


def naive_documents(text: str) -> list[str]:
    """The lines of a file, each with its line feed, without the empty ones."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [f"{line}\n" for line in lines if line not in ("", "\r")]


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(ENCODINGS), clean_texts.filter(bool))
def test_files_become_the_tokens_of_another_vocabulary(data, encoding, known):
    contents = data.draw(st.lists(files(encoding), min_size=1, max_size=3))
    texts = [naively_decoded(content, encoding) for content in contents]
    vocabulary = Vocabulary.from_text(known)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        in_small_pieces(patch, data)
        paths = written(folder, contents, data)
        try:
            tokens, skipped = read_tokens(paths, vocabulary, encoding=encoding, unknown="skip")
        except ChargenError as error:
            assert len(str(error).splitlines()) == 1
            assert any(text is None for text in texts)
            return
    text = "".join(text or "" for text in texts)
    assert vocabulary.decode(tokens) == "".join(c for c in text if c in known)
    assert skipped == sum(c not in known for c in text)


# windows


@st.composite
def token_arrays(draw: st.DrawFn) -> Any:
    size, seed = draw(st.integers(2, 300)), draw(st.integers(0, 99))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.uint32]))
    return np.random.default_rng(seed).integers(np.iinfo(dtype).max, size=size, dtype=dtype)


shapes = st.tuples(st.integers(1, 9), st.integers(1, 30))
seeds_and_steps = st.tuples(st.integers(0, 9), st.integers(0, 300))


@settings(deadline=None, max_examples=150)
@given(token_arrays(), shapes, seeds_and_steps)
def test_streams_are_those_of_a_reader_with_a_finger_on_each(tokens, shape, seed_and_step):
    seed, step = seed_and_step
    rows, length = fitted_shape(tokens.size, *shape, sliding=False)
    text = tokens.tolist()
    windows = max(1, (len(text) - 1 - length) // (rows * length))
    epoch, window = divmod(step, windows)
    slack = len(text) - 1 - rows * windows * length
    finger = int(np.random.default_rng((seed, epoch)).integers(slack + 1))
    luck = np.random.default_rng((seed, epoch, window)).random(rows).tolist()
    inputs, targets, carry = Streams(tokens, rows, length, seed).batch(step)
    for row in range(rows):
        place = finger + (row * windows + window) * length
        assert inputs[row].tolist() == text[place : place + length]
        assert targets[row].tolist() == text[place + 1 : place + length + 1]
        assert carry[row] == (window > 0 and luck[row] >= 0.02)


@settings(deadline=None, max_examples=150)
@given(token_arrays(), shapes, seeds_and_steps, st.integers(1, 7))
def test_sliding_windows_are_those_of_a_list_of_all(tokens, shape, seed_and_step, stride):
    seed, step = seed_and_step
    rows, length = fitted_shape(tokens.size, *shape, sliding=True)
    text = tokens.tolist()
    every = [
        (text[place : place + length], text[place + length])
        for place in range(0, len(text) - length, stride)
    ]
    inputs, targets, carry = SlidingWindows(tokens, rows, length, seed, stride).batch(step)
    assert not carry.any()
    for row in range(rows):
        epoch, position = divmod(step * rows + row, len(every))
        number = int(Permutation(len(every), (seed, epoch))(np.array([position]))[0])
        assert (inputs[row].tolist(), targets[row]) == every[number]


# sampling: filters in whole sentences, on floats of Python

SLIGHT = 1e-5  # a border that is met but for the last bits of float32 may fall to either side

# Small numbers, of which many are equal, or huge and tiny ones and some a bit apart.
small = st.integers(-2, 2).map(float) | st.floats(-3, 3, width=32)
EXTREMES = [1e30, -1e30, 3e4, -3e4, 1e-40, 0.0, -0.0, 1.0, float(np.nextafter(np.float32(1), 2))]
extreme = st.sampled_from(EXTREMES) | st.floats(-50, 50, width=32)
hostile_logits = st.one_of(
    st.lists(small, min_size=1, max_size=12),
    st.lists(small, min_size=4, max_size=12),
    st.lists(extreme | small, min_size=1, max_size=12),
    st.tuples(extreme | small, st.integers(1, 12)).map(lambda pair: [pair[0]] * pair[1]),
).map(lambda values: np.array(values, np.float32))
shares = st.sampled_from([0.0, 1e-9, 0.2, 0.5, 0.9, 1 - 1e-9, 1.0]) | st.floats(0.1, 1)
configs = st.builds(  # with each filter off as often as on, or one would hide another
    SamplingConfig,
    temperature=st.sampled_from([1.0, 1.0, 1e-9, 0.3, 2.0, 100.0]),
    top_k=st.just(0) | st.sampled_from([1, 2, 5, 20]),
    top_p=st.just(1.0) | shares,
    min_p=st.just(0.0) | shares,
    repetition_penalty=st.just(1.0) | st.sampled_from([0.5, 1.3, 100.0]),
    repetition_window=st.integers(1, 4),
)


def naive_logits(logits, config, allowed, recent) -> list[float]:
    """What is not allowed left out, what is recent penalised, all over the temperature, the
    largest at 0; rounded to float32 wherever that would be."""
    values = [float(logit) for logit in logits]
    for index in set(recent[-config.repetition_window :]):
        penalty = config.repetition_penalty
        changed = values[index] / penalty if values[index] > 0 else values[index] * penalty
        values[index] = float(np.float32(changed))
    values = [
        value if permitted else -math.inf for value, permitted in zip(values, allowed, strict=True)
    ]
    largest, temperature = max(values), np.float32(max(config.temperature, 1e-6))
    return [float(np.float32(value - largest) / temperature) for value in values]


def naive_kept(values: list[float], top_k: int, top_p: float, min_p: float) -> set[int]:
    """Who is left after top-k, top-p and min-p, with those who are equal to the last."""
    kept = [index for index, value in enumerate(values) if value > -math.inf]
    if top_k:
        least = sorted((values[index] for index in kept), reverse=True)[:top_k][-1]
        kept = [index for index in kept if values[index] >= least]
    if top_p < 1:
        whole = math.fsum(math.exp(values[index]) for index in kept)
        sum_, least = 0.0, 0.0
        for value in sorted((values[index] for index in kept), reverse=True):
            sum_, least = sum_ + math.exp(value), value
            if sum_ >= top_p * whole:
                break
        kept = [index for index in kept if values[index] >= least]
    if min_p > 0:
        kept = [index for index in kept if values[index] >= math.log(min_p)]
    return set(kept)


def between(values: list[float], config: SamplingConfig) -> tuple[set[int], set[int]]:
    """Who must be left, and who may be where a border is met but for rounding."""
    top_p, min_p = config.top_p, config.min_p
    most = min(1.0, min_p + SLIGHT) if min_p > 0 else 0.0
    return (
        naive_kept(values, config.top_k, max(0.0, top_p - SLIGHT), most),
        naive_kept(values, config.top_k, min(1.0, top_p + SLIGHT), max(0.0, min_p - SLIGHT)),
    )


@settings(deadline=None, max_examples=300)
@given(hostile_logits, configs)
def test_each_filter_keeps_whom_its_sentence_says(logits, config):
    everyone = [True] * logits.size
    values = naive_logits(logits, SamplingConfig(config.temperature), everyone, [])
    scaled = apply_temperature(logits, config.temperature)
    assert scaled.tolist() == values
    for found, alone in (
        (apply_top_k(scaled, config.top_k), SamplingConfig(top_k=config.top_k)),
        (apply_top_p(scaled, config.top_p), SamplingConfig(top_p=config.top_p)),
        (apply_min_p(scaled, config.min_p), SamplingConfig(min_p=config.min_p)),
    ):
        least, most = between(values, alone)
        assert least <= set(np.flatnonzero(found > -math.inf).tolist()) <= most


@settings(deadline=None, max_examples=200)
@given(hostile_logits, configs, st.data())
def test_samplers_draw_from_the_naive_distribution(logits, config, data):
    masks = st.lists(st.booleans(), min_size=logits.size, max_size=logits.size).filter(any)
    allowed = data.draw(st.just([True] * logits.size) | masks)
    recent = data.draw(st.lists(st.integers(0, logits.size - 1), max_size=6))
    values = naive_logits(logits, config, allowed, recent)
    least, most = between(values, config)
    uniforms = [(number + 0.5) / 101 for number in range(101)]
    options: dict[str, Any] = {"allowed": np.array(allowed), "recent": recent}
    drawn = [Sampler(config, Chosen(uniform), **options)(logits) for uniform in uniforms]
    assert set(drawn) <= most
    streams = [Chosen(uniform) for uniform in uniforms]
    batch = BatchSampler(config, streams, **options)(np.stack([logits] * len(streams)))
    assert batch.tolist() == drawn
    if least == most:
        weights = [math.exp(value) if n in most else 0.0 for n, value in enumerate(values)]
        expected = np.array(weights) / math.fsum(weights)
        shares_drawn = np.bincount(drawn, minlength=logits.size) / len(uniforms)
        np.testing.assert_allclose(shares_drawn, expected, atol=2 / len(uniforms))


@settings(deadline=None, max_examples=100)
@given(hostile_logits, st.data())
def test_greedy_takes_the_first_of_the_likeliest_that_is_allowed(logits, data):
    masks = st.lists(st.booleans(), min_size=logits.size, max_size=logits.size).filter(any)
    allowed = data.draw(masks)
    best = max(value for value, permitted in zip(logits, allowed, strict=True) if permitted)
    first = next(n for n, value in enumerate(logits) if value == best and allowed[n])
    greedy = SamplingConfig(0.0)
    assert Sampler(greedy, np.random.default_rng(0), allowed=np.array(allowed))(logits) == first
    many = BatchSampler(greedy, [np.random.default_rng(0)] * 2, allowed=np.array(allowed))
    assert many(np.stack([logits, logits])).tolist() == [first, first]


# stop rules, in the loops that make texts

LETTERS = [c.encode() for c in ("a", "\n", "\r", "\0", "é", "\u0301", "\u200d", "👨", "\x1b")]
BYTES = [bytes([byte]) for byte in b"\n\r\xe2\x80\x8d\xc3\xa9a"]


@settings(deadline=None, max_examples=80)
@given(st.data(), st.sampled_from([LETTERS, BYTES]), st.sampled_from([1, 12]), st.booleans())
def test_every_text_ends_where_a_search_of_the_endless_text_ends_it(data, pieces, texts, keep_stop):
    fragments = st.lists(st.sampled_from(pieces), min_size=1, max_size=3).map(b"".join)
    inner = fragments.map(lambda stop: stop[len(stop) // 2 :])  # may begin within a character
    rules = StopRules(
        data.draw(st.integers(0, 40)),
        tuple(data.draw(st.lists(fragments | inner, max_size=3))),
        keep_stop,
        data.draw(st.none() | st.integers(0, 4)),
    )
    window = data.draw(st.none() | st.integers(1, 3))
    engine, config = fixed_engine([0.0] * len(pieces)), SamplingConfig(1.0)
    prompt, seeds = np.array([0]), range(5, 5 + texts)
    found = list(generate_samples(engine, prompt, config, rules, seeds, pieces, window=window))
    assert [text.random_seed for text in found] == list(seeds)
    for text in found:
        sampler = Sampler(config, np.random.default_rng(text.random_seed))
        endless = generate_tokens(engine, prompt, sampler, window=window)
        drawn = [pieces[token] for token, _ in itertools.islice(endless, 40)]
        assert (text.data, text.finish_reason, text.tokens) == searched(rules, drawn)
