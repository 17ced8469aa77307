from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from effcore.store.labels import (
    MAX_NAME_LENGTH,
    MAX_NOTE_LENGTH,
    MAX_TAG_LENGTH,
    MAX_TAGS,
    LabelError,
    Labels,
    validated_labels,
)
from tests.store.samples import CONFIG, opened


def test_labels_are_trimmed_and_each_tag_is_there_once() -> None:
    labels = validated_labels("  Best so far ", [" a", "b", "a ", ""], "First.\r\n\tSecond.\n")
    assert labels == Labels("Best so far", ("a", "b"), "First.\nSecond.")
    assert validated_labels("e\u0301") == validated_labels("\u00e9"), "one way to write a letter"
    assert validated_labels() == Labels()


def test_markup_is_text_like_any_other() -> None:
    hostile = "<script>alert(1)</script> [x](javascript:y) :red[z]"
    assert validated_labels(hostile).name == hostile


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (
            {"name": "x" * (MAX_NAME_LENGTH + 1)},
            f"has {MAX_NAME_LENGTH + 1} characters, at most {MAX_NAME_LENGTH} are allowed",
        ),
        ({"tags": ["x" * (MAX_TAG_LENGTH + 1)]}, "tag=.* is not allowed: it has 31 characters"),
        ({"tags": [str(n) for n in range(MAX_TAGS + 1)]}, "13 tags are not allowed: at most 12"),
        ({"tags": ["a,b"]}, "a tag with a comma"),
        ({"note": "x" * (MAX_NOTE_LENGTH + 1)}, "note=.* at most 2000 are allowed; shorten it"),
        ({"note": "y\n" * MAX_NOTE_LENGTH}, "note=.* at most 2000 are allowed"),
        ({"name": "a\nb"}, "invisible characters"),
        ({"name": "a\0b"}, "invisible characters"),
        ({"tags": ["a\x1b[31m"]}, "invisible characters"),
        ({"name": "exe.\u202egpj"}, "invisible characters"),
        ({"note": "a\ud800"}, "invisible characters"),
    ],
)
def test_what_cannot_be_kept_is_refused(labels: dict[str, Any], why: str) -> None:
    with pytest.raises(LabelError, match=why):
        validated_labels(**labels)


def test_labels_stay_with_their_run(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for _ in range(2):
            store.create_run(CONFIG).close()
        one, other = (run.run_id for run in store.runs())

        store.set_labels(one, validated_labels("First", ["a", "b c"], "A note."))
        store.set_labels(one, validated_labels("Second", ["a", "b c"], "A note."))
        store.set_labels("20200101-000000-none", validated_labels("of nothing"))
        assert store.all_labels() == {one: Labels("Second", ("a", "b c"), "A note.")}
        assert store.summary(one).labels.name == "Second"
        assert store.summary(other).labels == Labels()
        store.delete_run(one)
        assert store.all_labels() == {}
