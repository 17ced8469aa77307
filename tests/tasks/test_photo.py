from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from effcore.tasks.base import ViewInputs
from effcore.tasks.photo import HEIGHT, WIDTH, Photo, _sample_image_path


def test_the_photograph_is_scikit_learns_own() -> None:
    with Image.open(_sample_image_path()) as picture:
        np.testing.assert_array_equal(np.array(picture), load_sample_image("china.jpg"))


def test_the_canvas_holds_what_was_last_predicted_and_the_target_stays() -> None:
    task = Photo(0, torch.device("cpu"))
    attention = ViewInputs(
        batch_B=torch.arange(4),
        drawn_N=torch.ones(Photo.n_train, dtype=torch.bool),
        trained_N=torch.arange(Photo.n_train, dtype=torch.float32),
        last_loss_N=torch.zeros(Photo.n_train),
        model=torch.nn.Identity(),
    )
    first = task.view(attention)
    task.record_outputs(torch.tensor([0, WIDTH]), torch.tensor([[1.0, 0.5, 0.0], [2.0, -1.0, 0.2]]))
    task.record_outputs(torch.tensor([1]), torch.tensor([[0.0, 1.0, 0.0]]))
    second = task.view(attention)
    painted, compute = (np.asarray(second[name]) for name in ("reconstruction", "compute"))
    assert painted.shape == (HEIGHT, WIDTH, 3)
    assert painted[0, 0].tolist() == [255, 128, 0]
    assert painted[1, 0].tolist() == [255, 0, 51]  # what lies beyond white and black is cut
    assert painted[0, 1].tolist() == [0, 255, 0]
    assert painted.astype(int).sum() == 255 + 128 + 255 + 51 + 255
    assert second["target"] is first["target"]
    assert compute[0, 0] == 0
    assert compute[-1, -1] == 255
