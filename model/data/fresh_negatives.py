"""Non-clicks drawn anew in every epoch, for logs whose non-clicks somebody drew at random.

A pair of user and item that is drawn once and kept is learnt by heart within a few epochs. Drawn anew, every epoch
shows other pairs of the same distribution, as sampled training objectives do (Rendle et al., BPR, UAI 2009,
section 4.1.2).
"""

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder, Tensors
from model.bundle.schema import UNKNOWN
from model.data.clicked_pairs import Pairs, clicked_pairs, pairs_of
from model.data.rows import Split

_TRIES = 10  # an item that a user clicked is drawn again; who clicked nearly everything keeps the logged non-click


class FreshNegatives:
    """Draws items of the training vocabulary uniformly, each with the features that the catalogue gives it."""

    def __init__(self, encoder: Encoder, train: Split, *, clicked: Pairs | None = None) -> None:
        """`clicked` are all pairs of the split, for one that is not in memory; None: they are gathered here.

        Raises ValueError if training saw no item.
        """
        encoded = encoder.encode_items({encoder.schema.keys.item: encoder.catalogue.ids})
        known = encoder.item_index(encoded) != UNKNOWN
        if not known.any():
            raise ValueError("fresh negatives need an item that training saw, there is none")
        self._train = train
        self._items: Tensors = {name: tensor[known] for name, tensor in encoded.items()}
        self._index = encoder.item_index(self._items)
        self._clicks = clicked_pairs(train, encoder) if clicked is None else clicked

    def redraw(self, batch: Tensors, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensors:
        """The batch of the training split's `rows` with other items where the label is 0.

        No item is drawn that the row's user clicked in training.
        """
        at = np.flatnonzero(batch["label"] == 0)
        users, drawn = self._train.users(rows)[at], np.full(len(at), -1)
        for _ in range(_TRIES):
            open_ = np.flatnonzero(drawn < 0)
            tried = rng.integers(len(self._index), size=len(open_))
            free = ~self._clicked(pairs_of(users[open_], self._index[tried]))
            drawn[open_[free]] = tried[free]
        at, drawn = at[drawn >= 0], drawn[drawn >= 0]
        out = dict(batch)
        for name, items in self._items.items():
            out[name] = batch[name].copy()
            out[name][at, 0] = items[drawn]
        return out

    def _clicked(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Whether each is one of `_clicks`, which are sorted already: np.isin would sort them in every batch."""
        if not len(self._clicks):
            return np.zeros(len(pairs), dtype=bool)
        at = np.minimum(np.searchsorted(self._clicks, pairs), len(self._clicks) - 1)
        return np.equal(self._clicks[at], pairs)
