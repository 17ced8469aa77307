from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effcore.config import ConfigError, resolve
from effcore.tasks.base import ViewInputs, make_task
from effcore.tasks.digits import N_CLASSES, N_TEST, N_VALIDATION, SIDE, Digits


def made(**settings: Any) -> Digits:
    task = make_task(resolve({"task": "digits", "device": "cpu", **settings}))
    assert isinstance(task, Digits)
    return task


def labels(task: Digits) -> np.ndarray[Any, Any]:
    _, given = task.batch(torch.arange(task.n_train), torch.Generator().manual_seed(0))
    return given.numpy()


def test_noise_makes_exactly_so_many_labels_wrong() -> None:
    clean, noisy = labels(made()), made(label_noise=0.1)
    wrong = labels(noisy) != clean
    assert wrong.sum() == round(0.1 * len(clean))
    np.testing.assert_array_equal(wrong, noisy.mislabelled_N)


def test_redundancy_repeats_exactly_so_many_images() -> None:
    usual, task = made(), made(redundancy=0.6)
    assert len(set(task.source_N)) == task.n_train - round(0.6 * task.n_train)
    np.testing.assert_array_equal(labels(task), labels(usual)[task.source_N])
    # The same shifts for an image and for what stands in its place.
    places = torch.from_numpy(task.source_N)
    shown, _ = task.batch(torch.arange(task.n_train), torch.Generator().manual_seed(0))
    meant, _ = usual.batch(places, torch.Generator().manual_seed(0))
    assert torch.equal(shown, meant)


def test_imbalance_makes_the_last_digit_so_many_times_rarer() -> None:
    task = made(imbalance=10)
    counts = np.bincount(labels(task), minlength=N_CLASSES)
    assert (counts[0], counts[-1]) == (120, 12)
    assert list(counts) == sorted(counts, reverse=True)
    assert counts.sum() == task.n_train == Digits.count_examples(_settings(imbalance=10))


def _settings(**values: float) -> Any:
    return Digits.settings(**values)


def test_a_rare_digit_stays_as_rare_where_images_are_repeated() -> None:
    task = made(imbalance=100, redundancy=0.9)
    alone = np.bincount(labels(made(imbalance=100)), minlength=N_CLASSES)
    np.testing.assert_array_equal(np.bincount(labels(task), minlength=N_CLASSES), alone)
    assert alone.min() == 1


def test_what_is_judged_on_stays_clean_and_balanced() -> None:
    usual, spoilt = made(), made(label_noise=0.5, redundancy=0.9, imbalance=50)
    model = usual.build_model("mlp", 0, torch.device("cpu")).eval()
    for split in ("validation", "test"):
        with torch.inference_mode():
            assert usual.evaluate(model, split) == spoilt.evaluate(model, split)
    assert (N_VALIDATION, N_TEST) == (180, 360)


def test_faults_are_a_matter_of_the_seed() -> None:
    first, again, other = (made(label_noise=0.2, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.mislabelled_N, again.mislabelled_N)
    assert (first.mislabelled_N != other.mislabelled_N).any()


def test_a_setting_out_of_range_or_of_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"label_noise=0.7 is not allowed: expected a number"):
        resolve({"task": "digits", "label_noise": 0.7})
    with pytest.raises(ConfigError, match=r"data setting of other tasks \(digits"):
        resolve({"task": "photo", "label_noise": 0.1})
    with pytest.raises(ConfigError, match="unknown size 'huge'"):
        resolve({"task": "digits", "size": "huge"})


def test_the_usual_batch_fills_its_sheet() -> None:
    task, config = made(), resolve({"task": "digits", "device": "cpu"})
    drawn_N, loss_N = torch.zeros(task.n_train, dtype=torch.bool), torch.zeros(task.n_train)
    attention = ViewInputs(torch.arange(config.batch_size), drawn_N, loss_N, loss_N, nn.Identity())
    sheet = task.view(attention)["trained"]
    assert isinstance(sheet, np.ndarray)
    assert sheet[-SIDE - 1 : -1, -SIDE - 1 : -1].any(), "its last place is empty"
