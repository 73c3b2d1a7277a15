"""Witten-Bell n-grams against the formula written down with dictionaries."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from chargen import ngrams
from chargen.ngrams import witten_bell


class SlowGrams:
    """Interpolated Witten-Bell by the book: a Counter of followers for every context."""

    def __init__(self, training, vocabulary_size, order):
        self.vocabulary_size = vocabulary_size
        self.followers = defaultdict(Counter)
        for place, character in enumerate(training):
            for length in range(min(order, place + 1)):
                self.followers[tuple(training[place - length : place])][character] += 1

    def probability(self, character, context):
        uniform = 1 / self.vocabulary_size
        lower = self.probability(character, context[1:]) if context else uniform
        seen = self.followers.get(context)
        if not seen:
            return lower
        return (seen[character] + len(seen) * lower) / (seen.total() + len(seen))

    def bits(self, text, order):
        """Of each character from the second on."""
        return [
            -math.log2(
                self.probability(text[place], tuple(text[max(0, place - order + 1) : place]))
            )
            for place in range(1, len(text))
        ]


def slow_bits(training, text, vocabulary_size, order):
    slow = SlowGrams(training, vocabulary_size, order)
    return np.array([slow.bits(text, length) for length in range(1, order + 1)])


def bits(training, text, vocabulary_size, order=6):
    """Surprisals in bits (order, N - 1)."""
    training, text = np.array(training, np.uint8), np.array(text, np.uint8)
    blocks = list(witten_bell(training, text, vocabulary_size=vocabulary_size, order=order))
    return np.concatenate(blocks, axis=1) / math.log(2)


def random_text(size, vocabulary_size, seed):
    """Text with habits: half the time a character follows from the two before it."""
    rng = np.random.default_rng(seed)
    text = [0, 0]
    for _ in range(size):
        usual = (2 * text[-1] + text[-2]) % vocabulary_size
        text.append(usual if rng.random() < 0.5 else int(rng.integers(vocabulary_size)))
    return text[2:]


@pytest.mark.parametrize("vocabulary_size", (1, 2, 7, 200))
@pytest.mark.parametrize(("training_size", "text_size"), [(1000, 300), (3, 50), (40, 2), (5, 5)])
def test_bits_are_those_of_the_slow_twin(vocabulary_size, training_size, text_size):
    training = random_text(training_size, vocabulary_size, 1)
    text = random_text(text_size, vocabulary_size, 2)
    found = bits(training, text, vocabulary_size)
    assert found.shape == (6, text_size - 1)
    expected = slow_bits(training, text, vocabulary_size, 6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("training_block", (1, 7, 64))
@pytest.mark.parametrize("text_block", (5, 100))
def test_blocks_of_both_texts_change_nothing(training_block, text_block, monkeypatch):
    training, text = random_text(100, 4, 3), random_text(101, 4, 4)
    whole = bits(training, text, 4)
    monkeypatch.setattr(ngrams, "_TRAINING_BLOCK", training_block)
    monkeypatch.setattr(ngrams, "_TEXT_BLOCK", text_block)
    np.testing.assert_allclose(bits(training, text, 4), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("context", ([], [0], [1, 2], [3, 3, 3, 3, 3], [0, 1, 2, 3, 0, 1, 2]))
def test_the_probabilities_of_what_may_follow_sum_to_one(context):
    training = [*random_text(400, 4, 5), 0, 1, 2, 3, 0, 1, 2]
    last = np.array([bits(training, [0, *context, which], 5)[:, -1] for which in range(5)])
    np.testing.assert_allclose((2.0**-last).sum(axis=0), 1, rtol=1e-12)
    assert (2.0 ** -last[4] > 0).all()  # which the training text lacks


def test_an_example_by_hand():
    """After "abab" and then "a": p_1(b) = (2 + 2/3) / (4 + 2); after "a", always "b" came, twice,
    so p_2(b | a) = (2 + p_1(b)) / (2 + 1). The third character never came: p_1(c) = (2/3) / 6."""
    found = 2.0 ** -bits([0, 1, 0, 1], [0, 1, 2], 3, order=2)
    unigram = [(2 + 2 / 3) / 6, (2 / 3) / 6]
    np.testing.assert_allclose(found[0], unigram)
    np.testing.assert_allclose(found[1], [(2 + unigram[0]) / 3, (0 + unigram[1]) / (1 + 1)])


def test_without_training_text_every_character_is_as_likely():
    np.testing.assert_allclose(bits([], [0, 1, 2, 3, 0], 8), 3)


def test_contexts_are_told_apart_in_a_large_vocabulary():
    """Six characters of 2 ** 20 do not fit into 64 bits."""
    rng = np.random.default_rng(6)
    size = 1 << 20
    alphabet = np.concatenate([[0, size - 1], rng.integers(size, size=6)])
    training, text = alphabet[rng.integers(8, size=(2, 500))].astype(np.uint32)
    (found,) = witten_bell(training, text, vocabulary_size=size, order=6)
    expected = slow_bits(training.tolist(), text.tolist(), size, 6)
    np.testing.assert_allclose(found / math.log(2), expected, rtol=0, atol=1e-9)


def test_longer_grams_learn_a_text_by_heart_and_nothing_is_left_behind():
    text = random_text(3000, 30, 7)
    once, twice = bits(text, text, 30), bits(text, text, 30)
    np.testing.assert_array_equal(once, twice)
    means = once.mean(axis=1)
    assert (np.diff(means) < 0).all()
    assert means[5] < means[0] / 2
