from __future__ import annotations

import hashlib
import math
import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from effcore.config import ConfigError, resolve
from effcore.records.views import ShadedText, ViewItem
from effcore.tasks import code, stdlib_text
from effcore.tasks.base import ViewInputs, make_model, make_task
from effcore.tasks.code import _SHOWN_WINDOWS, MODULES, N_TRAIN, VOCABULARY, WINDOW, Code

CPU = torch.device("cpu")


def look(model: nn.Module, drawn_N: torch.Tensor) -> ViewInputs:
    last = torch.full((N_TRAIN,), torch.inf)
    return ViewInputs(torch.arange(8), drawn_N, drawn_N.float(), last, model)


def text_of(item: ViewItem) -> ShadedText:
    assert isinstance(item, ShadedText)
    return item


def test_every_byte_is_predicted_from_those_before_it() -> None:
    task = Code(0, CPU)
    inputs, targets = task.batch(torch.arange(N_TRAIN), torch.Generator().manual_seed(1))
    assert inputs.shape == targets.shape == (N_TRAIN, WINDOW)
    names = [f"{name}.py" for name in MODULES["train"]]
    text = stdlib_text.read_library_files(names, code._MODULE_CHARS["train"])
    start = text.index(bytes(targets[700].tolist()).decode("ascii"))
    assert 700 * WINDOW < start <= 701 * WINDOW


def test_one_byte_in_ten_is_replaced_while_training_and_none_when_judged() -> None:
    task = Code(0, CPU)
    inputs, targets = task.batch(torch.arange(N_TRAIN), torch.Generator().manual_seed(1))
    changed = (inputs[:, 1:] != targets[:, :-1]).float().mean()
    assert float(changed) == pytest.approx(0.1 * 127 / 128, abs=0.003)
    shown: list[torch.Tensor] = []

    def spy(tokens: torch.Tensor) -> torch.Tensor:
        shown.append(tokens)
        return torch.zeros(*tokens.shape, VOCABULARY)

    model = nn.Identity()
    model.forward = spy  # type: ignore[assignment, method-assign]
    task.evaluate(model, "validation")
    read = stdlib_text.read_library_files([f"{name}.py" for name in MODULES["validation"]], 6400)
    first = bytes(shown[0].flatten().tolist()).decode("ascii")
    assert read.startswith(first)


def test_modules_are_held_out_whole() -> None:
    named = [name for names in MODULES.values() for name in names]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", ["transformer", "convolution"])
def test_no_model_looks_ahead(name: str) -> None:
    model = make_model(Code(0, CPU), resolve({"task": "code", "model": name, "device": "cpu"}))
    with torch.no_grad():
        for parameter in model.parameters():  # branches start at zero, which would hide it
            parameter.add_(0.05 * torch.randn_like(parameter))
        tokens = torch.randint(0, VOCABULARY, (2, WINDOW))
        changed = tokens.clone()
        changed[:, 40] = (changed[:, 40] + 1) % VOCABULARY
        first, second = model(tokens), model(changed)
    torch.testing.assert_close(first[:, :40], second[:, :40])
    assert not torch.allclose(first[:, 40:], second[:, 40:])


def test_bits_are_nats_over_the_logarithm_of_two() -> None:
    task = Code(0, CPU)
    uniform = nn.Sequential(nn.Identity())
    uniform.forward = lambda x: torch.zeros(*x.shape, VOCABULARY)  # type: ignore[method-assign]
    for split in ("validation", "test"):
        loss, bits = task.evaluate(uniform, split)
        assert float(bits) == pytest.approx(math.log2(VOCABULARY))
        assert float(loss) == pytest.approx(math.log(VOCABULARY))


def test_the_text_is_shaded_by_last_losses_and_dimmed_where_skipped() -> None:
    task = make_task(resolve({"task": "code", "device": "cpu"}))
    model = make_model(task, resolve({"task": "code", "device": "cpu"})).eval()
    drawn_N = torch.ones(N_TRAIN, dtype=torch.bool)
    drawn_N[_SHOWN_WINDOWS.start + 5] = False
    with torch.inference_mode():
        before = text_of(task.view(look(model, drawn_N))["losses"])
        idx_B = torch.tensor([_SHOWN_WINDOWS.start + 8])
        inputs, targets = task.batch(idx_B, torch.Generator().manual_seed(0))
        outputs = model(inputs)
        task.losses(outputs, targets)
        task.record_outputs(idx_B, outputs)
        after = text_of(task.view(look(model, drawn_N))["losses"])
    # It begins with a whole line, so that a part of the first window is missing.
    missing = (_SHOWN_WINDOWS.stop - _SHOWN_WINDOWS.start) * WINDOW - len(before.text)
    assert 0 < missing < 5 * WINDOW
    assert np.flatnonzero(before.dim_T).tolist() == [
        5 * WINDOW - missing + place for place in range(WINDOW)
    ]
    assert not before.shade_T.any()
    shaded = np.flatnonzero(after.shade_T)
    assert 0 < len(shaded) <= WINDOW
    assert shaded.min() >= 8 * WINDOW - missing
    assert shaded.max() < 10 * WINDOW - missing


def test_the_sample_grows_from_what_was_written_before() -> None:
    config = resolve({"task": "code", "device": "cpu"})
    task = make_task(config)
    model, drawn_N = make_model(task, config).eval(), torch.ones(N_TRAIN, dtype=torch.bool)
    with torch.inference_mode():
        texts = [text_of(task.view(look(model, drawn_N))["sample"]).text for _ in range(60)]
    assert texts[1].startswith(texts[0])
    assert all(character.isprintable() or character == "\n" for character in texts[-1])
    assert len(texts[1]) == len(texts[0]) + 8
    assert len(texts[-1]) == len(texts[-2]) <= code._SAMPLE_CHARS + 8


# The corpus ------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_text() -> None:
    words, digest, problem = stdlib_text.text_provenance(lambda: ["a", "bc"])
    assert problem == ""
    assert digest == hashlib.sha256(b"abc").hexdigest()
    assert digest[:12] in words
    assert "3 characters" in words
    assert platform.python_version() in Code.provenance().words
    assert platform.python_version() not in Code.provenance().hash


def test_what_is_not_ascii_becomes_one_question_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.py").write_text("é = '→'\r\n", encoding="utf-8", newline="")
    monkeypatch.setattr(stdlib_text, "_library_folder", lambda: tmp_path)
    assert stdlib_text.read_library_files(["odd.py"], 100) == "? = '?'\n"
    assert stdlib_text.read_library_files(["odd.py", "odd.py"], 3) == "? =? ="


def test_a_python_without_its_library_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdlib_text, "_library_folder", lambda: tmp_path)
    code._split_texts.cache_clear()
    with pytest.raises(stdlib_text.MissingSourceError, match=r"argparse.py is not on this machine"):
        Code(0, CPU)
    assert "is not on this machine" in Code.provenance().problem
    with pytest.raises(ConfigError, match="use a Python installation with source files"):
        resolve({"task": "code"})
    with pytest.raises(stdlib_text.MissingSourceError, match="library's email is not"):
        stdlib_text.package_files("email")
    for names in MODULES.values():
        for name in names:
            (tmp_path / f"{name}.py").write_text("short")
    with pytest.raises(stdlib_text.MissingSourceError, match="shorter than usual"):
        Code(0, CPU)
    code._split_texts.cache_clear()


def test_tests_of_a_package_are_no_part_of_it() -> None:
    files = stdlib_text.package_files("unittest")
    assert "unittest/case.py" in files
    assert not [name for name in files if "/test" in name]
