"""What a network does inside, each number against its definition written out slowly."""

import math
import re
from typing import Any

import numpy as np
import pytest
from networks import every_cell, random_engine, random_tensors, random_tokens, small_config

from chargen import inspection
from chargen.cells import CellWeights, backward, forward, zero_state
from chargen.config import ModelConfig
from chargen.errors import TextError, UsageError
from chargen.features import characters_of, text_features
from chargen.inspection import (
    UnitMatch,
    activations,
    correlations,
    find_units,
    gradient_norms,
    learning_curves,
    moving_average,
    principal_components,
)
from chargen.vocabulary import Vocabulary

WINDOW = 6
LAYERS = [(depth, layer) for depth in (1, 2, 3) for layer in range(1, depth + 1)]
every_layer = pytest.mark.parametrize(("num_layers", "layer"), LAYERS)


def double_tensors(config: ModelConfig, scale: float = 0.5) -> dict[str, Any]:
    return {name: t.astype(np.float64) for name, t in random_tensors(config, 0, scale).items()}


def layers_of(config: ModelConfig, tensors: dict[str, Any]) -> list[CellWeights]:
    return [
        CellWeights(
            tensors[f"recurrent_{n}/kernel"],
            tensors[f"recurrent_{n}/recurrent_kernel"],
            tensors[f"recurrent_{n}/bias"],
        )
        for n in range(1, config.num_layers + 1)
    ]


def surprisal_after(
    config: ModelConfig, tensors: dict[str, Any], tokens: Any, change: Any, at: int, layer: int
) -> float:
    """The surprisal in nats of the last of ``tokens``, where ``change`` (H,) was added to the h of
    ``layer`` after step ``at``; the network is run step by step."""
    states = [
        zero_state(config.cell, 1, config.units, np.float64) for _ in range(config.num_layers)
    ]
    for step, token in enumerate(tokens[:-1]):
        output = tensors["embedding"][[[token]]]
        for number, weights in enumerate(layers_of(config, tensors)):
            _, state, _ = forward(config.cell, weights, output, states[number])
            h, *c = state
            if (step, number) == (at, layer - 1):
                h = h + change
            states[number] = (h, *c)
            output = h[np.newaxis]
    logits = output[0, 0] @ tensors["head/kernel"] + tensors["head/bias"]
    return float(np.log(np.exp(logits).sum()) - logits[tokens[-1]])


def norm_by_differences(*network: Any, tokens: Any, back: int, layer: int) -> float:
    """The norm of dloss(t)/dh(t-k), t being the last but one of ``tokens``."""
    config, step = network[0], 1e-5
    at = len(tokens) - 2 - back
    gradient = [
        surprisal_after(*network, tokens, step * unit, at, layer)
        - surprisal_after(*network, tokens, -step * unit, at, layer)
        for unit in np.eye(config.units)
    ]
    return float(np.linalg.norm(gradient)) / (2 * step)


def norms_by_loop(config: ModelConfig, tensors: Any, tokens: Any, distance: int) -> Any:
    """The mean over all places, each with a pass of its own over the whole text before it."""
    sums, places = np.zeros(distance + 1), range(distance, tokens.size - 1)
    for t in places:
        outputs = tensors["embedding"][tokens[: t + 1, np.newaxis]]
        for weights in layers_of(config, tensors):
            state = zero_state(config.cell, 1, config.units, np.float64)
            outputs, _, cache = forward(config.cell, weights, outputs, state)
        logits = outputs[t, 0] @ tensors["head/kernel"] + tensors["head/bias"]
        p = np.exp(logits) / np.exp(logits).sum()
        gradient = np.zeros_like(outputs)
        gradient[t, 0] = tensors["head/kernel"] @ (p - np.eye(p.size)[tokens[t + 1]])
        no_more = zero_state(config.cell, 1, config.units, np.float64)
        *_, hidden = backward(config.cell, weights, cache, gradient, no_more)
        for k in range(distance + 1):
            sums[k] += np.linalg.norm(hidden[t - k, 0])
    return sums / len(places)


# how far back a model looks


@every_cell
@every_layer
def test_norms_are_those_of_finite_differences(cell: str, num_layers: int, layer: int) -> None:
    config = small_config(cell, num_layers, units=5)
    tensors, tokens = double_tensors(config), random_tokens(config, 9)
    found = gradient_norms(config, tensors, tokens, distance=7, layer=layer)
    expected = [
        norm_by_differences(config, tensors, tokens=tokens, back=k, layer=layer) for k in range(8)
    ]
    assert found == pytest.approx(expected, rel=1e-6)
    assert min(expected) > 0


@every_cell
@pytest.mark.parametrize("num_layers", [1, 2])
def test_norms_are_the_mean_over_all_places(
    cell: str, num_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_ROWS", 4)
    monkeypatch.setattr(inspection, "_STEPS", 3)
    config = small_config(cell, num_layers)
    tensors, tokens = double_tensors(config), random_tokens(config, 30)
    found = gradient_norms(config, tensors, tokens, distance=12, positions=1000)
    np.testing.assert_allclose(found, norms_by_loop(config, tensors, tokens, 12), rtol=1e-10)
    single = gradient_norms(config, random_tensors(config), tokens, distance=12, positions=1000)
    np.testing.assert_allclose(single, found, rtol=1e-3)


def test_places_are_evenly_spread() -> None:
    config = small_config("gru")
    tensors, tokens = double_tensors(config), random_tokens(config, 41)
    found = gradient_norms(config, tensors, tokens, distance=9, positions=3)  # t = 9, 24, 39
    each = [norms_by_loop(config, tensors, tokens[: t + 2], t)[:10] for t in (9, 24, 39)]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-10)


@every_cell
def test_a_model_of_windows_looks_no_further_back_than_its_window(cell: str) -> None:
    config = small_config(cell, 2)
    tensors, tokens = double_tensors(config), random_tokens(config, 20)
    found = gradient_norms(config, tensors, tokens, distance=50, positions=99, window=WINDOW)
    assert found.shape == (WINDOW,)
    each = [
        gradient_norms(config, tensors, tokens[t + 1 - WINDOW : t + 2], distance=WINDOW - 1)
        for t in range(WINDOW - 1, 19)
    ]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-10)
    near = gradient_norms(config, tensors, tokens, distance=2, positions=99, window=WINDOW)
    np.testing.assert_array_equal(near, found[:3])


def test_the_gradient_of_a_simple_network_vanishes_and_that_of_gated_ones_need_not() -> None:
    """With gates that keep what they hold, as training on long memories makes them."""
    falls = {}
    for cell in ("rnn", "lstm", "gru"):
        config = small_config(cell, units=16)
        tensors = double_tensors(config, scale=0.15)
        bias = tensors["recurrent_1/bias"]
        if cell == "lstm":
            bias[16:32] = 5  # forget gate
        elif cell == "gru":
            bias[0, :16] = 5  # update gate
        tokens = random_tokens(config, 100)
        norms = gradient_norms(config, tensors, tokens, distance=30)
        falls[cell] = norms[30] / norms[1]
    assert falls["rnn"] < 1e-5
    assert falls["lstm"] > 0.5
    assert falls["gru"] > 0.5


def test_what_has_nearly_vanished_is_not_lost() -> None:
    config = small_config("rnn")
    tokens = random_tokens(config, 60)
    weak = gradient_norms(config, random_tensors(config, scale=0.08), tokens, distance=50)
    exact = gradient_norms(config, double_tensors(config, scale=0.08), tokens, distance=50)
    assert exact[50] < 1e-25
    np.testing.assert_allclose(weak, exact, rtol=1e-3)


def test_a_text_too_short_to_look_back() -> None:
    config = small_config("gru")
    tensors = random_tensors(config)
    assert gradient_norms(config, tensors, random_tokens(config, 6), distance=4).shape == (5,)
    with pytest.raises(TextError, match=r"holds 5 known .* needs at least 6 \(--distance"):
        gradient_norms(config, tensors, random_tokens(config, 5), distance=4)
    with pytest.raises(TextError, match="needs at least 7"):
        gradient_norms(config, tensors, random_tokens(config, 6), distance=1, window=WINDOW)
    with pytest.raises(UsageError, match=r"^--layer 2: .* from 1 to 1"):
        gradient_norms(config, tensors, random_tokens(config, 9), distance=4, layer=2)
    with pytest.raises(UsageError, match="--distance"):
        gradient_norms(config, tensors, random_tokens(config, 9), distance=-1)


# activations and surprisal


@every_cell
@every_layer
@pytest.mark.parametrize("cell_state", [False, True])
def test_activations_are_the_states_of_the_engine(
    cell: str, num_layers: int, layer: int, cell_state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_STEPS", 7)
    config = small_config(cell, num_layers)
    tensors, tokens = random_tensors(config), random_tokens(config, 25)
    if cell_state and cell != "lstm":
        with pytest.raises(UsageError, match=r"^--cell-state: "):
            activations(config, tensors, tokens, cell_state=True)
        return
    engine = random_engine(config)
    state, expected = engine.zero_state(), []
    number = (layer - 1) * (2 if cell == "lstm" else 1) + cell_state
    for token in tokens:
        engine.step(state, int(token))
        expected.append(state.arrays[number].copy())
    found = activations(config, tensors, tokens, layer=layer, cell_state=cell_state)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    if layer == num_layers:
        last = activations(config, tensors, tokens, cell_state=cell_state)
        np.testing.assert_array_equal(last, found)


@every_cell
@pytest.mark.parametrize("size", [1, WINDOW - 1, WINDOW, 20])
def test_activations_of_windows_start_from_zero_at_each_place(
    cell: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_ROWS", 4)
    config = small_config(cell, 2)
    tensors, tokens = random_tensors(config), random_tokens(config, size)
    found = activations(config, tensors, tokens, window=WINDOW)
    for t in range(size):
        seen = tokens[max(0, t + 1 - WINDOW) : t + 1]
        alone = activations(config, tensors, seen)[-1]
        np.testing.assert_allclose(found[t], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [1, 3, 7, 99])
def test_moving_average(width: int) -> None:
    values = np.random.default_rng(0).normal(size=40)
    values[[0, 20, 21, 22]] = np.nan
    expected = []
    for place in range(40):
        around = values[max(0, place - width // 2) : place + width // 2 + 1]
        around = around[~np.isnan(around)]
        expected.append(around.mean() if around.size else np.nan)
    np.testing.assert_allclose(moving_average(values, width), expected)


def test_learning_curves_hold_what_a_history_has() -> None:
    history = [
        {"step": 1, "loss": 2.0, "learning_rate": 0.1},
        {"step": 5, "loss": 1.0, "bits_per_char": 1.5},
    ]
    training, held_out, rate = learning_curves(history)
    assert training == ([1, 5], [2 / math.log(2), 1 / math.log(2)])
    assert (held_out, rate) == (([5], [1.5]), ([1], [0.1]))


# units that follow something


def test_correlations_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    units, features = rng.normal(size=(50, 7)).astype(np.float32), rng.normal(size=(3, 50))
    units[:, 2] += 3 * features[1]
    expected = np.corrcoef(units.T, features)[:7, 7:].T
    np.testing.assert_allclose(correlations(units, features), expected, atol=1e-6)


def test_what_never_changes_correlates_with_nothing() -> None:
    units = np.stack([np.full(9, 0.1, np.float32), np.arange(9, dtype=np.float32)], axis=1)
    features = np.stack([np.full(9, 0.3), np.arange(9.0)])
    np.testing.assert_allclose(correlations(units, features), [[0, 0], [0, 1]], atol=1e-12)


def test_units_are_found_that_were_planted() -> None:
    rng = np.random.default_rng(0)
    text = 'One "two (three) four" five.\nSix 7 "eight nine" ten.\n' * 20
    features = text_features(text)
    units = rng.normal(size=(len(text), 30)).astype(np.float32)
    units[:, 4] = 0.1 * units[:, 4] - features["inside quotes"]
    units[:, 9] = 0.3 * units[:, 9] + features["inside quotes"]
    units[:, 17] = features["position in line"]
    found = find_units(units, features, count=2)
    by_feature: dict[str, list[UnitMatch]] = {}
    for match in found:
        by_feature.setdefault(match.feature, []).append(match)
    assert list(by_feature) == list(features)
    assert [match.unit for match in by_feature["inside quotes"]] == [4, 9]
    assert by_feature["inside quotes"][0].correlation < -0.9
    assert by_feature["position in line"][0].unit == 17
    assert by_feature["position in line"][0].correlation == pytest.approx(1)
    assert {len(matches) for matches in by_feature.values()} == {2}
    for matches in by_feature.values():
        sizes = [abs(match.correlation) for match in matches]
        assert sizes == sorted(sizes, reverse=True)


def test_a_feature_that_the_text_lacks_is_left_out() -> None:
    text = "no quotes no digits "
    units = np.random.default_rng(0).normal(size=(len(text), 4))
    named = {match.feature for match in find_units(units, text_features(text))}
    assert "inside quotes" not in named
    assert "digit" not in named
    assert "position in word" in named
    assert find_units(units[:1], text_features("a")) == []


# features


TEXT = (
    'A "small" (or {tiny}) word. Don\'t\n\n"Never closed.\n\nNow 3 are open: «([» and ”)"\n'
    "snake_case; 一二。三!\tÉté\r\n"
)


def test_features_by_other_means() -> None:
    found = {name: values.tolist() for name, values in text_features(TEXT).items()}
    before = [TEXT[: t + 1] for t in range(len(TEXT))]
    assert found["position in line"] == [len(b) - 1 - b.rfind("\n") for b in before]
    assert found["position in word"] == [len(re.search(r"[\w'’]*\Z", b)[0]) for b in before]
    assert found["position in sentence"] == [len(re.search(r"[^.!?。]*\Z", b)[0]) for b in before]
    assert found["capital"] == [c in "ANDÉ" for c in TEXT]
    assert found["digit"] == [c == "3" for c in TEXT]
    assert found["white space"] == [c in " \n\t\r" for c in TEXT]
    assert found["before white space"] == [c in " \n\t\r" for c in TEXT[1:]] + [False]
    assert found["before a line break"] == [c == "\n" for c in TEXT[1:]] + [False]


def marked(name: str, text: str) -> str:
    """The characters of a text at which a feature is not 0; the others are dots."""
    values = text_features(text)[name]
    return "".join(c if v else "." for c, v in zip(text.replace("\n", "/"), values, strict=True))


def test_quotes() -> None:
    assert marked("inside quotes", 'a "bc" d "e') == '.."bc...."e'
    assert marked("inside quotes", "“ab” «cd» ‘e’") == "“ab..«cd....."
    assert marked("inside quotes", 'a "b\nc\n\nd" e') == '.."b/c/.." e'


def test_brackets_nest_and_a_stray_one_counts_for_nothing() -> None:
    text = "a)(b[c]{d}e)f"
    depth = text_features(text)["bracket depth"].tolist()
    assert depth == [0, 0, 1, 1, 2, 2, 1, 2, 2, 1, 1, 0, 0]


def test_a_byte_has_the_character_that_it_is_a_part_of() -> None:
    data = "aé一".encode() + b"\xff\xc3z"
    tokens = np.frombuffer(data, np.uint8)
    assert characters_of(Vocabulary.of_bytes(), tokens) == "aéé一一一\ufffd\ufffdz"
    vocabulary = Vocabulary.from_text("aé一😀")
    assert characters_of(vocabulary, vocabulary.encode("一é😀a")) == "一é😀a"


# the embedding


def test_principal_components_are_eigenvectors_of_the_covariance() -> None:
    matrix = np.random.default_rng(0).normal(size=(20, 6)) * [1, 5, 1, 0.1, 3, 1] + 7
    points, shares = principal_components(matrix.astype(np.float32))
    values, vectors = np.linalg.eigh(np.cov(matrix.T))
    for k in (0, 1):
        direction = vectors[:, -1 - k]
        direction = direction * np.sign(direction[np.abs(direction).argmax()])
        expected = (matrix - matrix.mean(axis=0)) @ direction
        np.testing.assert_allclose(points[:, k], expected, atol=1e-4)
        assert shares[k] == pytest.approx(values[-1 - k] / values.sum())


NARROW = [
    (np.array([[1.0, 2.0, 3.0]]), [[0, 0]], [0, 0]),
    (np.array([[1.0], [4.0]]), [[-1.5, 0], [1.5, 0]], [1, 0]),
    (np.ones((3, 4)), np.zeros((3, 2)), [0, 0]),
]


@pytest.mark.parametrize(("matrix", "points", "shares"), NARROW)
def test_an_embedding_too_small_for_a_plane(matrix: Any, points: Any, shares: Any) -> None:
    found = principal_components(matrix)
    np.testing.assert_allclose(found.points, points, atol=1e-12)
    np.testing.assert_allclose(found.shares, shares, atol=1e-12)
