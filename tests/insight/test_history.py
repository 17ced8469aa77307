"""What is told of examples agrees with what a run did, and with what can be said by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from effcore.insight.example_history import (
    ExampleHistory,
    example_statistics,
    example_timeline,
    history_from_decisions,
    history_from_losses,
    load_history,
)
from effcore.knobs import Controls
from effcore.records import EpochDrawEvent, StepEvent
from effcore.records.epoch_record import EpochRecord
from effcore.testing.tiny_task import tiny_task
from effcore.training.trainer import train
from tests.store.samples import opened
from tests.tiny_runs import of, still, tiny_config, trained

INF = np.inf


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def record(index: int, trained: str, losses: list[float] | None, visited: int = 4) -> EpochRecord:
    bits = np.packbits([letter == "x" for letter in trained])
    kept = None if losses is None else np.array(losses, np.float16)
    return EpochRecord(10 * (index + 1), index, visited, bits, kept, 4)


def three() -> ExampleHistory:
    """Three whole passes over four examples, the last of which is never trained on, and a part."""
    return history_from_losses(
        [
            record(0, "xxx.", [0.0, 1.0, 2.0, INF]),
            record(1, "..x.", [0.0, 1.0, 1.0, INF]),
            record(2, ".xx.", None),
            record(3, "xxxx", [0.5, 0.5, 0.5, INF], visited=2),
        ]
    )


def test_counts_are_of_whole_passes_and_confidence_is_of_all_with_losses() -> None:
    look = example_statistics(three(), 4, "cross_entropy")
    assert look.complete_epochs == 3
    assert look.trained_N.tolist() == [1, 2, 3, 0]
    assert look.skipped_N.tolist() == [2, 1, 0, 3]
    each = np.exp(-np.array([[0, 1, 2], [0, 1, 1], [0.5, 0.5, 0.5]]))
    np.testing.assert_allclose(look.confidence_N[:3], each.mean(0), rtol=1e-6)
    np.testing.assert_allclose(look.variability_N[:3], each.std(0), atol=1e-6)
    assert look.known_N.tolist() == [True, True, True, False]
    assert np.isnan(look.loss_N[3])


def test_scrubbing_goes_back_to_what_was_known_then() -> None:
    history = three()
    first = example_statistics(history, 1, "cross_entropy")
    assert (first.complete_epochs, first.trained_N.tolist()) == (1, [1, 1, 1, 0])
    np.testing.assert_allclose(first.confidence_N[:3], np.exp([0, -1, -2]), rtol=1e-6)
    assert first.variability_N[:3].tolist() == [0, 0, 0]
    third = example_statistics(history, 3, "cross_entropy")
    np.testing.assert_array_equal(
        third.confidence_N, example_statistics(history, 2, "cross_entropy").confidence_N
    )
    assert third.loss_N[:3].tolist() == [0, 1, 1], "of the third pass no losses were kept"


def test_a_squared_error_is_held_against_the_mean_of_the_first_pass() -> None:
    look = example_statistics(three(), 1, "squared_error")
    np.testing.assert_allclose(look.confidence_N[:3], np.exp([0, -1, -2]), rtol=1e-6)
    doubled = history_from_losses([record(0, "xxxx", [0.0, 2.0, 4.0, INF])])
    np.testing.assert_allclose(
        example_statistics(doubled, 1, "squared_error").confidence_N[:3],
        look.confidence_N[:3],
        rtol=1e-6,
    )


def test_one_example_has_a_story() -> None:
    story = example_timeline(three(), 1, "cross_entropy")
    assert story.epoch_P.tolist() == [1, 2, 3, 4]
    assert story.trained_P.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(story.loss_P, [1, 1, np.nan, 0.5])
    np.testing.assert_allclose(story.confidence_P, np.exp([-1, -1, np.nan, -0.5]), rtol=1e-6)


def test_old_runs_have_decisions_alone_and_the_last_one_of_a_pass_counts() -> None:
    def decided(index: int, drawn: str) -> EpochDrawEvent:
        bits = np.packbits([letter == "x" for letter in drawn])
        return EpochDrawEvent(index, index, bits, drawn.count("x"))

    found = [decided(0, "xxxx"), decided(1, "x..."), decided(1, "xx.."), decided(2, "...x")]
    history = history_from_decisions(found, 4)
    assert history is not None
    look = example_statistics(history, 3, "cross_entropy")
    assert (history.has_losses, look.complete_epochs, look.trained_N.tolist()) == (
        False,
        2,
        [2, 2, 1, 1],
    )
    assert not look.known_N.any()
    assert history_from_decisions(found, 400) is None, "of another number of examples"


@pytest.mark.parametrize("selection", ["dense", "confident-skip", "selective-backprop"])
def test_a_run_tells_of_each_pass_who_was_trained_on(selection: str) -> None:
    config = tiny_config(selection=selection)
    seen = np.zeros(200)
    controls = Controls()
    events = []
    training = train(config, controls, still)
    for event in training:
        events.append(event)
        if isinstance(event, StepEvent):
            loop = training._loop
            assert loop is not None
            seen[loop.sampler.last_batch_B.numpy()] += 1
    found = of(EpochRecord, events)
    assert [each.epoch_index for each in found] == [0, 1, 2]
    assert all(each.is_complete for each in found)
    look = example_statistics(history_from_losses(found), 3, "cross_entropy")
    # What fills no batch is trained on in the next pass, and after the last one not at all.
    assert abs(look.trained_N.sum() - seen.sum()) < 16 * (3 if selection != "dense" else 1)
    assert (seen - look.trained_N).max() <= 1
    assert look.known_N[seen > 0].all()
    if selection != "selective-backprop":  # which looks at more than it trains on
        assert not look.known_N[seen == 0].any()


def test_a_run_that_is_stopped_says_how_far_its_last_pass_came() -> None:
    controls = Controls()
    events = []
    for event in train(tiny_config(), controls, still):
        events.append(event)
        if isinstance(event, StepEvent) and event.step == 15:
            controls.request_stop()
    first, last = of(EpochRecord, events)
    assert (first.is_complete, last.is_complete, last.epoch_index) == (True, False, 1)
    assert 0 < last.visited < 200


def test_what_is_stored_while_a_run_trains_can_be_looked_at(tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    with opened(tmp_path) as store:
        writer = store.create_run(tiny_config())
        assert load_history(store, writer.run_id, 200) is None
        told = of(EpochRecord, trained(tiny_config()))
        writer.write_event(told[0])
        writer.flush()
        found = load_history(store, writer.run_id, 200)
        assert found is not None
        assert found.epochs == 1
        writer.write_event(told[1])
        writer.flush()
        again = load_history(store, writer.run_id, 200)
        assert again is not None
        assert (again.epochs, again.n_examples) == (2, 200)
        writer.close()
