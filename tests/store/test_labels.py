from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from effcore.store.labels import (
    MOST_NAME,
    MOST_NOTE,
    MOST_TAG,
    MOST_TAGS,
    LabelBook,
    LabelError,
    Labels,
    checked,
)
from tests.store.samples import CONFIG, opened


def test_labels_are_trimmed_and_each_tag_is_there_once() -> None:
    labels = checked("  Best so far ", [" a", "b", "a ", ""], "First.\r\n\tSecond.\n")
    assert labels == Labels("Best so far", ("a", "b"), "First.\nSecond.")
    assert checked("e\u0301") == checked("\u00e9"), "one way to write a letter"
    assert checked() == Labels()


def test_markup_is_text_like_any_other() -> None:
    hostile = "<script>alert(1)</script> [x](javascript:y) :red[z]"
    assert checked(hostile).name == hostile


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"name": "x" * (MOST_NAME + 1)}, f"has {MOST_NAME + 1} characters, and {MOST_NAME} fit"),
        ({"tags": ["x" * (MOST_TAG + 1)]}, "tag=.* is not allowed: it has 31 characters"),
        ({"tags": [str(n) for n in range(MOST_TAGS + 1)]}, "13 tags are not allowed: at most 12"),
        ({"tags": ["a,b"]}, "a tag with a comma"),
        ({"note": "x" * (MOST_NOTE + 1)}, "note=.* and 2000 fit; shorten it"),
        ({"note": "y\n" * MOST_NOTE}, "note=.* and 2000 fit"),
        ({"name": "a\nb"}, "characters that cannot be seen"),
        ({"name": "a\0b"}, "characters that cannot be seen"),
        ({"tags": ["a\x1b[31m"]}, "characters that cannot be seen"),
        ({"name": "exe.\u202egpj"}, "characters that cannot be seen"),
        ({"note": "a\ud800"}, "characters that cannot be seen"),
    ],
)
def test_what_cannot_be_kept_is_refused(labels: dict[str, Any], why: str) -> None:
    with pytest.raises(LabelError, match=why):
        checked(**labels)


def test_labels_stay_with_their_run(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for _ in range(2):
            store.create(CONFIG).close()
        one, other = (run.run_id for run in store.runs())
        book = LabelBook(store)
        book.put(one, checked("First", ["a", "b c"], "A note."))
        book.put(one, checked("Second", ["a", "b c"], "A note."))
        book.put("20200101-000000-none", checked("of nothing"))
        assert book.all() == {one: Labels("Second", ("a", "b c"), "A note.")}
        assert store.summary(one).labels.name == "Second"
        assert store.summary(other).labels == Labels()
        store.delete(one)
        assert book.all() == {}
