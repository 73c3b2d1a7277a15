"""`Model`, what a Python user holds: a trained network with its vocabulary.

    >>> model = chargen.load("chargen.keras")
    >>> model.generate("The quick ", length=100, random_seed=1)

It ties the rooms below together and knows nothing of the command line.
"""

from __future__ import annotations

import codecs
import os
import secrets
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.archive import Archive, read_archive, verify_archive, write_archive
from chargen.config import SamplingConfig
from chargen.corpus import Corpus, Tokens, encode_with, read_corpus
from chargen.engine import Engine
from chargen.errors import ModelFileError, TextError, UsageError
from chargen.evaluation import (
    Evaluation,
    LineScore,
    baselines,
    evaluate,
    score_lines,
    surprisal_bits,
    surprisals,
)
from chargen.generation import Generated, Stop, StopRules, generate_samples, generate_tokens
from chargen.sampling import Sampler
from chargen.vocabulary import UnknownPolicy, Vocabulary, bytes_of

__all__ = ["DEFAULT_LENGTH", "Model", "Piece", "load"]

DEFAULT_LENGTH = 500
_LONG_LINE = 1 << 20  # characters encoded at a time

_VERIFIED_TOKENS = 32

Indices = NDArray[np.integer[Any]]
Logits = NDArray[np.float32]


def load(path: str | os.PathLike[str] = "chargen.keras") -> Model:
    """The model in the file at ``path``; raises ``ModelFileError`` if it holds none."""
    return Model(read_archive(path), Path(path))


class Piece(NamedTuple):
    """What one drawn ``token`` adds to a text: ``data`` in UTF-8 (or bytes, of a byte model), empty
    while a stop string may have begun; and the logits (V,) it was drawn from."""

    data: bytes
    token: int
    logits: Logits

    @property
    def surprisal(self) -> float:
        """Nats, under the model's own distribution."""
        return float(surprisals(self.logits, np.asarray(self.token))[0])


class Model:
    """A trained model, ready to generate and to evaluate without TensorFlow."""

    def __init__(self, archive: Archive, path: Path | None = None) -> None:
        self.config = archive.model
        self.vocabulary: Vocabulary = archive.vocabulary
        self.training = archive.training
        self.history = archive.history
        self.path = path
        self._archive = archive

    def __repr__(self) -> str:
        config = self.config
        return (
            f"<chargen.Model {config.cell} {config.num_layers} x {config.units},"
            f" {config.num_parameters:,} parameters, {len(self.vocabulary)} characters>"
        )

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.config, self._archive.tensors)

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The weights by name, in Keras' layouts: see ``ModelConfig.tensor_shapes``."""
        return self._archive.tensors

    @property
    def window(self) -> int | None:
        """The rolling window of a model trained on windows; None where state is carried."""
        if self.training.get("objective") != "last":
            return None
        return int(self.training["sequence_length"])

    def pieces(
        self,
        prompt: str | bytes = "",
        *,
        sampling: SamplingConfig | None = None,
        rules: StopRules | None = None,
        ban: str = "",
        only: str = "",
        random_seed: int | None = None,
        unknown: UnknownPolicy = "error",
    ) -> Iterator[Piece]:
        """The new text bit by bit; the same random seed gives the same text.

        Without a prompt the model starts after a line break, from zero state. ``ban`` holds
        characters that are never written, ``only`` those that alone may be; raises ``UsageError``
        where none is left.
        """
        _check_random_seed(random_seed)
        indices = self._prompt_indices(prompt, unknown)
        sampler = Sampler(
            sampling or SamplingConfig(),
            np.random.default_rng(random_seed),
            allowed=self._allowed(ban, only),
            recent=indices.tolist(),
        )
        tokens = generate_tokens(self.engine, indices, sampler, window=self.window)
        return self._until_stop(tokens, Stop(rules or StopRules()))

    def _until_stop(self, tokens: Iterator[tuple[int, Logits]], stop: Stop) -> Iterator[Piece]:
        pieces = self._token_bytes
        while stop.reason is None:
            token, logits = next(tokens)
            yield Piece(stop.feed(pieces[token]), token, logits)

    def samples(
        self,
        prompt: str | bytes = "",
        *,
        num_samples: int = 1,
        sampling: SamplingConfig | None = None,
        rules: StopRules | None = None,
        ban: str = "",
        only: str = "",
        random_seed: int | None = None,
        unknown: UnknownPolicy = "error",
        scored: bool = False,
    ) -> Iterator[Generated]:
        """Whole texts, made side by side; the arguments are those of ``pieces``.

        Text i has the random seed ``random_seed`` + i, so that more texts change none; ``scored``
        adds how surprised the model was. Raises ``UsageError`` where a text would never end.
        """
        rules = rules or StopRules(DEFAULT_LENGTH)
        if rules.length is None and rules.lines is None and not rules.stop:
            raise UsageError(
                "-n/--length inf: several texts, and those of --json, need an end; give a number"
            )
        _check_random_seed(random_seed)
        if random_seed is None:
            random_seed = secrets.randbits(32)
        indices = self._prompt_indices(prompt, unknown)
        allowed = self._allowed(ban, only)
        return generate_samples(
            self.engine,
            indices,
            sampling or SamplingConfig(),
            rules,
            range(random_seed, random_seed + num_samples),
            self._token_bytes,
            allowed=allowed,
            window=self.window,
            scored=scored,
        )

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        return [self.vocabulary.decode_bytes([index]) for index in range(len(self.vocabulary))]

    def _prompt_indices(self, prompt: str | bytes, unknown: UnknownPolicy) -> Indices:
        indices = self.vocabulary.encode(prompt, unknown=unknown, what="the seed")
        if not indices.size and self.vocabulary.line_break is not None:
            indices = np.array([self.vocabulary.line_break], np.int32)
        return indices

    def _allowed(self, ban: str, only: str) -> NDArray[np.bool_] | None:
        """Which indices may be drawn: None is all."""
        if not ban and not only:
            return None
        allowed = np.full(len(self.vocabulary), not only)
        allowed[self.vocabulary.encode(only, unknown="skip")] = True
        allowed[self.vocabulary.encode(ban, unknown="skip")] = False
        if not allowed.any():
            raise UsageError("--only and --ban: they leave no character that the model knows")
        return allowed

    def stream(
        self,
        prompt: str = "",
        *,
        length: int | None = DEFAULT_LENGTH,
        stop: str | Sequence[str] = (),
        random_seed: int | None = None,
        unknown: UnknownPolicy = "error",
        **sampling: Any,
    ) -> Iterator[str]:
        """The new characters as they are made, ``length`` of them (None: without end), or up to
        the first of the ``stop`` strings; ``sampling`` are the entries of ``SamplingConfig``.

        A byte model counts bytes; a character of several bytes comes with its last one.
        """
        stops = [stop] if isinstance(stop, str) else stop
        pieces = self.pieces(
            prompt,
            sampling=SamplingConfig(**sampling),
            rules=StopRules(length, tuple(bytes_of(text) for text in stops)),
            random_seed=random_seed,
            unknown=unknown,
        )
        errors = "surrogatepass" if self.vocabulary.kind == "char" else "replace"
        return codecs.iterdecode((piece.data for piece in pieces if piece.data), "utf-8", errors)

    def generate(self, prompt: str = "", *, length: int = DEFAULT_LENGTH, **options: Any) -> str:
        """The new text after ``prompt``, without it; the options are those of ``stream``."""
        if length is None:
            raise UsageError("length None never ends: use Model.stream")
        return "".join(self.stream(prompt, length=length, **options))

    def score(self, lines: Sequence[str | bytes]) -> list[LineScore]:
        """How well the model expects each line; see ``chargen.evaluation.score_lines``.

        A character that the model never saw costs as much as one of all of Unicode's would.
        """
        encoded = [self._known_part(line) for line in lines]
        return score_lines(
            self.engine,
            [tokens for tokens, _ in encoded],
            [skipped for _, skipped in encoded],
            line_break=self.vocabulary.line_break,
            window=self.window,
        )

    def _known_part(self, line: str | bytes) -> tuple[Indices, int]:
        """A line as indices, a long one on disk, and how many characters were skipped."""
        if len(line) > _LONG_LINE:
            starts = range(0, len(line), _LONG_LINE)
            blocks = (line[start : start + _LONG_LINE] for start in starts)
            return encode_with(blocks, self.vocabulary, unknown="skip")
        tokens = self.vocabulary.encode(line, unknown="skip")
        return tokens, self.vocabulary.points_of(line).size - tokens.size

    def evaluate(self, text: str | bytes, *, unknown: UnknownPolicy = "error") -> Evaluation:
        """How well the model expects ``text``; see ``chargen.evaluation`` for the definition."""
        tokens, skipped = encode_with([text], self.vocabulary, unknown=unknown)
        return self.evaluate_tokens(tokens, skipped=skipped)

    def evaluate_tokens(self, tokens: Tokens, *, skipped: int = 0) -> Evaluation:
        """The figure of text that is already encoded with this model's vocabulary."""
        found = evaluate(self.engine, tokens, window=self.window)
        return Evaluation(found.nats, found.hits, found.characters, skipped)

    def surprisal_bits(
        self, text: str | bytes, *, unknown: UnknownPolicy = "error"
    ) -> NDArray[np.float64]:
        """The surprisal in bits of each known character of ``text``, (N,); the first one's is not
        a number."""
        tokens, _ = encode_with([text], self.vocabulary, unknown=unknown)
        return surprisal_bits(self.engine, tokens, window=self.window)

    def baselines(
        self,
        text: str | bytes,
        training_text: str | bytes | None = None,
        *,
        unknown: UnknownPolicy = "error",
    ) -> dict[str, float]:
        """Bits per character of what to compare ``evaluate(text)`` with, by name; see
        ``chargen.evaluation.baselines``. Unknown characters of the training text are skipped."""
        tokens, _ = encode_with([text], self.vocabulary, unknown=unknown)
        training = None
        if training_text is not None:
            training, _ = encode_with([training_text], self.vocabulary, unknown="skip")
        return baselines(tokens, self.vocabulary, training)

    def held_out_part(self, corpus: Sequence[str | os.PathLike[str]]) -> Tokens:
        """The part of its own corpus that was held out when this model was trained."""
        return self.own_corpus(corpus).held_out_part

    def own_corpus(self, corpus: Sequence[str | os.PathLike[str]]) -> Corpus:
        """The corpus that this model was trained on, split as it was then; raises ``TextError`` if
        it is another one."""
        recorded = self.training
        read = read_corpus(
            corpus,
            tokens=self.vocabulary.kind,
            encoding=recorded["encoding"],
            lines=recorded["lines"],
            val_fraction=recorded["val_fraction"],
            random_seed=recorded["random_seed"],
            known=self.vocabulary,
        )
        if read.vocabulary != self.vocabulary or read.sha256() != recorded["corpus_sha256"]:
            raise TextError(
                f"{' '.join(os.fspath(name) for name in corpus)}: not the corpus that the model was"
                " trained on, or its text has changed; leave --held-out out to measure all of it"
            )
        return read

    def verify(self) -> None:
        """Check what is left aside when a model is read, for the sake of time.

        Raises ``ModelFileError`` where Keras would read other weights from the file than we do, or
        where the engine's logits are not finite.
        """
        verify_archive(self._archive, self.path)
        tokens = np.linspace(0, len(self.vocabulary) - 1, _VERIFIED_TOKENS).astype(np.int32)
        logits = self.engine.head(self.engine.body.run(self.engine.zero_state(), tokens))
        if not np.isfinite(logits).all():
            raise ModelFileError(
                f"{self.path}: a damaged model file: its weights give logits that are not finite;"
                " train or copy it again"
            )

    def info(self) -> dict[str, Any]:
        """Everything the file says about the model, as plain values."""
        return {
            "path": None if self.path is None else str(self.path),
            "model": self.config.to_dict(),
            "parameters": self.config.num_parameters,
            "vocabulary": self.vocabulary.to_dict(),
            "training": self.training,
            "history": self.history,
        }

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model to ``path``; one that exists is overwritten only with ``force``."""
        if Path(path).exists() and not force:
            raise UsageError(f"{os.fspath(path)}: exists; force=True overwrites it")
        write_archive(path, self._archive)
        self.path = Path(path)


def _check_random_seed(random_seed: int | None) -> None:
    if random_seed is not None and (type(random_seed) is not int or random_seed < 0):
        raise UsageError(f"--random-seed {random_seed!r}: expected a whole number of 0 or more")
