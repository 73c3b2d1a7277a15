"""The textbook's experiment: one line learned by heart from sliding windows, and given back."""

import pytest

import chargen

SENTENCE = "The quick brown fox jumps over the lazy dog."
SEED = "The quick "


@pytest.mark.parametrize(
    ("random_seed", "ending"),
    [(0, ""), (1, ""), (2, ""), (3, ""), (1, "\n")],
)
def test_the_sentence_comes_back(random_seed: int, ending: str) -> None:
    model = chargen.train(
        text=SENTENCE + ending,
        cell="rnn",
        units=16,
        embedding_dim=8,
        sequence_length=10,
        objective="last",
        batch_size=1,
        epochs=100,
        val_fraction=0,
        random_seed=random_seed,
    )
    assert SEED + model.generate(SEED, length=34, temperature=0) == SENTENCE
