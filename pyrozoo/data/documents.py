"""Documents: how often each word occurs in each text, with what else is known of the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import Arrays, Hidden, Stored, check_fraction, check_size, labels
from pyrozoo.data.readers.labels import some
from pyrozoo.data.triplets import Triplets, _listed, _numbers

SHOWN = 0.5
"""Share of the tokens of a held-out document that a fit sees."""


@dataclass(frozen=True, eq=False)
class Documents(Triplets):
    """D documents (rows) by V words (columns), of which the counts that are not 0 are listed.

    What is held out are tokens: of some documents half, chosen at random whatever their word (document completion). So
    a word can be listed and hidden in one document, and ``hidden`` lists how often it occurs in the hidden half.

    Attributes:
        tokens: Of data to simulate into: how many tokens each document is to have, [D].
        about: What else is known of each document, name -> D values: text or numbers.
    """

    name: str = "documents"
    tokens: Tensor | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    holds_out: ClassVar[str] = "tokens"

    @cached_property
    def lengths(self) -> Tensor:
        """Return how many tokens each document has, N_d, [D]."""
        if self.tokens is not None:
            return self.tokens.to(self.values)
        return self.values.new_zeros(self.shape[0]).index_add(0, self.values[:, 0].long(), self.values[:, 2])

    @cached_property
    def word_totals(self) -> Tensor:
        """Return how often each word occurs in all documents, [V]."""
        return self.values.new_zeros(self.shape[1]).index_add(0, self.values[:, 1].long(), self.values[:, 2])

    @cached_property
    def log_arrangements(self) -> Tensor:
        """Return log N_d! - sum_v log n_dv!, of each document, [D]."""
        return torch.lgamma(self.lengths + 1) - self.pattern.row_sums(self.log_factorials)

    def batch(self, index: Tensor) -> Self:
        """Return a minibatch of documents that remembers the size of the whole."""
        index = index.to(self.values.device)
        about = {name: some_of(values, index) for name, values in self.about.items()}
        return replace(super().batch(index), about=about)

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Return the data on another device and in another precision (see ``Triplets.to``)."""
        moved = super().to(device, dtype)
        return moved if self.tokens is None else replace(moved, tokens=self.tokens.to(device, dtype))

    def checked(self) -> Self:
        """Return the data themselves, or raise DataError when there are no documents or words, or a count is none."""
        super().checked()
        if self.unobserved is not None and len(self.unobserved):
            row, column = (int(each) for each in self.unobserved[0])
            said = "has no value: a document says how often each word occurs; leave the word out, or write 0"
            raise DataError(f"{self.cell(row, column)}: {said}")
        return self

    def hold_out(self, fraction: float, seed: int, of: Literal["all", "listed"] = "all") -> Self:
        """Hide half of the tokens of a random fraction of the documents that have two or more.

        Args:
            fraction: Of the documents, in [0, 1).
            seed: Of the choice.
            of: Makes no difference.
        """
        check_fraction(fraction)
        long = (self.lengths >= 2).nonzero().flatten().cpu().numpy()
        generator = np.random.default_rng(seed)
        chosen = np.sort(generator.permutation(long)[: round(fraction * len(long))])
        return self.hide_halves(torch.as_tensor(chosen, device=self.values.device), generator)

    def hide_halves(self, documents: Tensor, generator: np.random.Generator) -> Self:
        """Hide half of the tokens of some documents, [document] sorted, each token as likely as any other."""
        if not len(documents):
            return self
        starts, values = self.pattern.starts.cpu().numpy(), self.values.clone()
        counts, hidden = self.counts.cpu().numpy().astype(np.int64), np.zeros(len(values))
        for document in documents.tolist():
            part = slice(starts[document], starts[document + 1])
            count = int(counts[part].sum() - round(SHOWN * float(counts[part].sum())))
            hidden[part] = generator.multivariate_hypergeometric(counts[part], count, method="marginals")
        gone = torch.as_tensor(hidden).to(values)
        at = (gone > 0).nonzero().flatten()
        values[:, 2] -= gone
        taken = Hidden(values[at, 0].long(), values[at, 1].long(), gone[at], at_random=False)
        left = values[values[:, 2] > 0]
        return replace(self, values=left, tokens=None, hidden=taken.joined(self.hidden, self.shape[1]))

    def hide(self, pairs: Tensor, at_random: bool = True) -> Self:
        """Refuse: what is held out of documents are tokens, not words."""
        raise SettingError(
            "data.holdout of documents is a fraction of them, half of whose tokens are hidden; not cells"
        )

    @property
    def missing(self) -> Self | None:
        """Return None: of documents nothing is unknown."""
        return None

    def predictions(self, prediction: Prediction) -> pd.DataFrame:
        """Return for each held-out document how many tokens are hidden, and their mean log probability."""
        hidden = self.hidden
        assert hidden is not None
        mean, tokens, documents = completion(hidden, prediction.log_density)
        known = {"document": some(self.row_labels, documents), "hidden_tokens": tokens, "log_probability": mean}
        return pd.DataFrame({k: v.cpu() if isinstance(v, Tensor) else v for k, v in known.items()})

    def with_test(self, test: Any) -> Self:
        """Return the data with new documents beside them; words that these data do not have are left out of them."""
        self = replace(self, notes=(*self.notes, *(note for note in test.notes if note not in self.notes)))
        place = set(map(str, self.column_labels))
        known = torch.tensor([str(label) in place for label in test.column_labels], dtype=torch.bool)
        if known.all() or list(test.column_labels) == labels("column", test.shape[1]):
            return super().with_test(test)
        if not known.any():
            raise DataError(f"{test.name}: the new documents have no word that {self.name} has")
        keep, at = known[test.values[:, 1].long()], known.cumsum(0) - 1
        values = test.values[keep].clone()
        values[:, 1] = at[values[:, 1].long()].to(values.dtype)
        names = [label for label, its in zip(test.column_labels, known.tolist(), strict=True) if its]
        lost = float(test.counts[~keep].sum() / test.counts.sum().clamp(min=1))
        note = f"{test.name}: {lost:.1%} of the tokens are of words that {self.name} does not have: they are left out"
        return replace(super().with_test(replace(test, values=values, column_labels=names)), notes=(*self.notes, note))

    def statistics(self, values: Tensor, site: str) -> Arrays:
        """Return how often each word occurs, the share of zeros, and how many different words documents have."""
        counts, (D, V) = values[:, 2].double(), self.shape
        words = counts.new_zeros(V).index_add(0, values[:, 1].long(), counts)
        different = torch.bincount(values[:, 0].long(), minlength=D).double()
        result: Arrays = {"column_total": (("column",), words.cpu().numpy())}
        result["different_words"] = ("row",), different.cpu().numpy()
        return result | {"share_of_zeros": ((), np.asarray(1 - len(counts) / max(D * V, 1)))}

    def stored(self, site: str) -> tuple[Arrays, Arrays]:
        """Return the counts; what else is known of the documents, hidden tokens and new documents beside them."""
        values = replace(self, test=None)
        observed, extra = super(Documents, values).stored(site)
        for prefix, part in zip(("", "test_"), self.with_new_rows, strict=False):
            if prefix:
                extra["test_entries"] = ("test_entry", "triplet"), part.values.cpu().numpy()
                extra["test_length"] = ("test_row",), part.lengths.cpu().numpy()
                extra |= {} if part.hidden is None else part.hidden.stored("test_hidden")
            for name, column in part.about.items():
                kept = np.asarray(column)
                kept = kept if kept.dtype.kind in "fiub" else np.array([str(each) for each in column], dtype=object)
                extra[f"{prefix}about_{name}"] = (f"{prefix}row",), kept
        return observed, extra

    @classmethod
    def restore(cls, observed: Stored, extra: Stored, coords: Mapping[str, Sequence[str]], site: str) -> Self:
        """Rebuild the data from what ``stored`` returned."""
        made = super().restore(observed, extra, coords, site)

        def about(prefix: str) -> dict[str, Any]:
            start = f"{prefix}about_"
            return {name.removeprefix(start): extra[name] for name in extra if name.startswith(start)}

        test = None if made.test is None else replace(made.test, about=about("test_"))
        return replace(made, about=about(""), test=test)

    @classmethod
    def blank(cls, rows: int, columns: int, tokens: int = 100) -> Self:
        """Return documents to simulate into.

        Args:
            rows: D.
            columns: V.
            tokens: How many each document is to have.
        """
        check_size(rows, columns)
        if tokens < 1:
            raise SettingError(f"data.tokens is {tokens}; it must be at least 1")
        empty = torch.zeros(0, 3, dtype=torch.float64)
        names = labels("document", rows), labels("word", columns)
        return cls(empty, *names, "simulated", tokens=torch.full((rows,), float(tokens), dtype=torch.float64))

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], name: str = "documents") -> Self:
        """Make documents of arrays in compressed rows, as a file of NumPy holds them.

        Args:
            arrays: ``start`` (document d's entries are start[d] to start[d + 1]), ``word`` from 0, ``count``,
                ``vocabulary``; all else that has a value for each document is known ``about`` it.
            name: What to call them in messages.

        Raises:
            DataError: One of these is missing, or they do not fit each other.
        """
        wanted = ("start", "word", "count", "vocabulary")
        if lost := [each for each in wanted if each not in arrays]:
            raise DataError(f"{name}: there is no array {lost[0]!r}; {', '.join(wanted)} are needed")
        start, word, count, vocabulary = (np.asarray(arrays[each]) for each in wanted)
        fits = len(word) == len(count) and len(start) and start[0] == 0 and start[-1] == len(word)
        if not fits or (np.diff(start) < 0).any():
            raise DataError(f"{name}: start must go up from 0 to the number of words and of counts, {len(word)}")
        if len(word) and not 0 <= word.min() <= word.max() < len(vocabulary):
            raise DataError(f"{name}: word must be from 0 to {len(vocabulary) - 1}, places in the vocabulary")
        rows, documents = np.repeat(np.arange(len(start) - 1), np.diff(start)), len(start) - 1
        found = _listed(rows, word.astype(np.int64), _numbers(count, name), "sum")[:3]
        about = {key: each for key, each in arrays.items() if key not in wanted and each.shape[:1] == (documents,)}
        names = labels("document", documents), [str(each) for each in vocabulary]
        return replace(cls._assembled(*found, *names, name, ()), about=about, numbered=True).checked()


def some_of(values: Sequence[Any], index: Tensor) -> Sequence[Any]:
    """Return some of a document's values, by index."""
    return np.asarray(values)[index.cpu().numpy()] if len(values) else values


def completion(hidden: Hidden, log_probability: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean log probability of a hidden token of each document that has some, their numbers, and which.

    Args:
        hidden: Document, word and number of hidden tokens, [entry].
        log_probability: Of one such token, [entry].
    """
    documents, place = hidden.rows.unique(return_inverse=True)
    zero = log_probability.new_zeros(len(documents))
    tokens = zero.index_add(0, place, hidden.values.to(zero))
    return zero.index_add(0, place, log_probability * hidden.values.to(zero)) / tokens, tokens, documents
