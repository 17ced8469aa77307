from __future__ import annotations

import numpy as np
import pytest
import torch

from effcore.records.views import ShadedText, ViewItem
from effcore.tasks import snippets, stdlib_text
from effcore.tasks.base import ViewInputs
from effcore.tasks.snippets import (
    PACKAGES,
    PIECE_TOKENS,
    SEEN_TOKENS,
    Snippets,
    _is_new_piece,
    _load_pieces,
    _split_rows,
)

CPU = torch.device("cpu")


def text_of(item: ViewItem) -> ShadedText:
    assert isinstance(item, ShadedText)
    return item


def test_every_split_has_as_many_pieces_of_each_package() -> None:
    label_N = _load_pieces().label_N
    rows = _split_rows(label_N, 3)
    assert {name: len(part) for name, part in rows.items()} == {
        "train": Snippets.n_train,
        "validation": 640,
        "test": 960,
    }
    for part in rows.values():
        assert len(set(np.bincount(label_N[part]).tolist())) == 1
    assert len(set(np.concatenate(list(rows.values())))) == len(label_N)


def test_no_stretch_that_is_held_out_is_trained_on() -> None:
    pieces, rows = _load_pieces(), _split_rows(_load_pieces().label_N, 0)

    def stretches(part: str) -> set[bytes]:
        tokens = pieces.tokens_NT[rows[part]]
        offsets = range(PIECE_TOKENS - SEEN_TOKENS + 1)
        return {row[i : i + SEEN_TOKENS].tobytes() for row in tokens for i in offsets}

    train, validation, test = (stretches(part) for part in rows)
    assert not train & (validation | test)
    assert not validation & test


def test_a_repeated_stretch_is_noticed_wherever_it_lies() -> None:
    known: set[tuple[int, ...]] = set()
    piece = list(range(PIECE_TOKENS))
    assert _is_new_piece(piece, known)
    assert not _is_new_piece(piece, known)
    assert not _is_new_piece([*range(100, 105), *piece[: PIECE_TOKENS - 5]], known)
    assert _is_new_piece(list(range(200, 200 + PIECE_TOKENS)), known)


def test_tokens_have_the_same_number_on_every_machine() -> None:
    assert snippets._token_id("self") == 2403
    texts = _load_pieces().texts
    assert all(text.strip() == text for text in texts[:50])


def test_a_batch_is_a_stretch_of_each_piece() -> None:
    task = Snippets(0, CPU)
    idx_B = torch.arange(Snippets.n_train)
    tokens, labels = task.batch(idx_B, torch.Generator().manual_seed(0))
    assert tokens.shape == (Snippets.n_train, SEEN_TOKENS)
    assert labels.bincount().tolist() == [480] * len(PACKAGES)
    again, _ = task.batch(idx_B, torch.Generator().manual_seed(1))
    assert not torch.equal(tokens, again)


def test_the_view_lists_what_is_trained_on_and_what_is_skipped() -> None:
    task = Snippets(0, CPU)
    n = Snippets.n_train
    loss_N = torch.linspace(0.0, 4.0, n)
    drawn_N = torch.ones(n, dtype=torch.bool)
    drawn_N[5:7] = False
    attention = ViewInputs(
        torch.arange(100, 116), drawn_N, drawn_N.float(), loss_N, torch.nn.Identity()
    )
    view = task.view(attention)
    trained, skipped = text_of(view["trained"]), text_of(view["skipped"])
    assert trained.text.count("loss ") == 6
    assert not trained.dim_T.any()
    assert skipped.text.startswith("asyncio, loss 0.005\n")
    assert skipped.text.count("loss 0.00") == 2
    assert skipped.dim_T.all()
    unseen = ViewInputs(
        torch.arange(1), ~drawn_N, drawn_N.float(), torch.full((n,), torch.inf), torch.nn.Identity()
    )
    assert text_of(task.view(unseen)["trained"]).text.startswith("asyncio, not seen yet\n")


def test_a_library_too_small_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _load_pieces.cache_clear()
    monkeypatch.setattr(
        snippets, "_package_sources", lambda: dict.fromkeys(PACKAGES, "a b c " * 100)
    )
    with pytest.raises(stdlib_text.MissingSourceError, match="package asyncio is shorter"):
        Snippets(0, CPU)
    _load_pieces.cache_clear()
