"""A run that was left in the middle, as a killed process leaves it."""

from __future__ import annotations

import dataclasses

from effcore.config import model_data_fingerprint
from effcore.knobs import Controls
from effcore.records import RunConfig, StepEvent
from effcore.runs.resume import checkpoint_origin
from effcore.store import Store
from effcore.training.trainer import train
from tests.store.samples import ESTIMATE


def leave(store: Store, config: RunConfig, at: int, beyond: int) -> str:
    """Record a run, save it after ``at`` steps, train on for a few more, and vanish."""
    writer = store.create_run(config, fingerprint=model_data_fingerprint(config))
    controls = Controls()
    controls.report_each_step = True
    training = train(config, controls, lambda: 1.0)
    for event in training:
        writer.write_event(event)
        if isinstance(event, StepEvent) and event.step == at:
            found = training.checkpoint()
            assert found is not None
            writer.queue_energy(ESTIMATE)
            writer.queue_checkpoint(dataclasses.replace(found, origin=checkpoint_origin(config)))
        if isinstance(event, StepEvent) and event.step == at + beyond:
            break
    writer.close()
    return writer.run_id
