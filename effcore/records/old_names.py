"""Names of version 0.1.0 that have changed, and what each is called now.

:mod:`effcore.records.deprecation` reads these tables: an old name goes on working and warns. The
tables have the names that README documents, those that a file with a policy, a task or an energy
source imports or overrides, and those of ``effcore.testing``. Modules that only Effcore's own app,
commands and benches use have no old names.
"""

from __future__ import annotations

#: Modules that moved. A name in one that is not in ``OLD_NAMES`` has stayed the same.
OLD_MODULES: dict[str, str] = {
    "effcore.checkpoint": "effcore.training.checkpoint",
    "effcore.events": "effcore.records",
    "effcore.flops": "effcore.training.ledger",
    "effcore.plan": "effcore.records.step_plan",
    "effcore.stats": "effcore.studies.statistics",
    "effcore.tiny": "effcore.testing.tiny_task",
    "effcore.trainer": "effcore.training.trainer",
    "effcore.verdict": "effcore.studies.verdict",
    "effcore.views": "effcore.records.views",
    "effcore.tasks.classes": "effcore.tasks.classification",
    "effcore.energy.account": "effcore.energy.meter",
    "effcore.energy.apple": "effcore.energy.sources.apple",
    "effcore.energy.base": "effcore.energy.sources.base",
    "effcore.energy.baseline": "effcore.energy.arithmetic",
    "effcore.energy.cpu_model": "effcore.energy.sources.cpu_estimate",
    "effcore.energy.nvml": "effcore.energy.sources.nvml",
    "effcore.energy.rapl": "effcore.energy.sources.rapl",
    "effcore.energy.replay": "effcore.energy.sources.replay",
    "effcore.testing.declared": "effcore.testing.contracts",
    "effcore.testing.plans": "effcore.testing.contracts",
    "effcore.testing.resuming": "effcore.testing.contracts",
    "effcore.testing.selection": "effcore.testing.contracts",
    "effcore.testing.tasks": "effcore.testing.contracts",
    "effcore.selection": "effcore.policies.selection",
    "effcore.selection.auto": "effcore.policies.selection.auto",
    "effcore.selection.base": "effcore.policies.selection.base",
    "effcore.selection.confident_skip": "effcore.policies.selection.confident_skip",
    "effcore.selection.dense": "effcore.policies.selection.dense",
    "effcore.selection.el2n_pps": "effcore.policies.selection.el2n_pps",
    "effcore.selection.infobatch": "effcore.policies.selection.infobatch",
    "effcore.selection.kakurenbo": "effcore.policies.selection.kakurenbo",
    "effcore.selection.mastered": "effcore.policies.selection.mastered",
    "effcore.selection.parts": "effcore.policies.selection.score_functions",
    "effcore.selection.proportional": "effcore.policies.selection.proportional_policy",
    "effcore.selection.random": "effcore.policies.selection.random",
    "effcore.selection.rho_loss": "effcore.policies.selection.rho_loss",
    "effcore.selection.scoring": "effcore.policies.selection.scoring_policy",
    "effcore.selection.selective_backprop": "effcore.policies.selection.selective_backprop",
    "effcore.selection.stale_pps": "effcore.policies.selection.stale_pps",
    "effcore.update": "effcore.policies.update",
    "effcore.update.base": "effcore.policies.update.base",
    "effcore.update.drop_backward": "effcore.policies.update.drop_backward",
    "effcore.update.every_step": "effcore.policies.update.every_step",
    "effcore.update.prefix_freeze": "effcore.policies.update.prefix_freeze",
    "effcore.update.skip_step": "effcore.policies.update.skip_step",
    "effcore.intensity": "effcore.policies.intensity",
    "effcore.intensity.base": "effcore.policies.intensity.base",
    "effcore.intensity.depth_growth": "effcore.policies.intensity.depth_growth",
    "effcore.intensity.full": "effcore.policies.intensity.full",
    "effcore.intensity.resolution": "effcore.policies.intensity.resolution",
    "effcore.intensity.sequence_growth": "effcore.policies.intensity.sequence_growth",
}

#: Classes, functions and constants by their old module and name.
OLD_NAMES: dict[str, str] = {
    "effcore.checkpoint.pack": "effcore.training.checkpoint.pack_state",
    "effcore.checkpoint.unpack": "effcore.training.checkpoint.unpack_state",
    "effcore.config.RANGES": "effcore.config.NUMBER_RANGES",
    "effcore.config.dense_twin": "effcore.config.dense_reference",
    "effcore.config.devices": "effcore.config.available_devices",
    "effcore.config.fingerprint": "effcore.config.model_data_fingerprint",
    "effcore.events.PassEvent": "effcore.records.EpochDrawEvent",
    "effcore.events.Quality": "effcore.records.EnergyQuality",
    "effcore.flops.Cost": "effcore.training.ledger.FlopCost",
    "effcore.flops.Ledger": "effcore.training.ledger.FlopLedger",
    "effcore.flops.count": "effcore.training.ledger.count_flops",
    "effcore.flops.count_forward": "effcore.training.ledger.count_forward_flops",
    "effcore.flops.count_step": "effcore.training.ledger.count_step_flops",
    "effcore.flops.planned_step": "effcore.training.ledger.planned_step_cost",
    "effcore.knobs.in_force": "effcore.knobs.values_after_change",
    "effcore.plan.Anatomy": "effcore.records.step_plan.ModelStructure",
    "effcore.plan.FULL": "effcore.records.step_plan.FULL_PLAN",
    "effcore.plan.Moment": "effcore.records.step_plan.StepProgress",
    "effcore.plan.Plan": "effcore.records.step_plan.StepPlan",
    "effcore.plan.ResidualStage": "effcore.tasks.residual_stage.ResidualStage",
    "effcore.plan.anatomy_of": "effcore.tasks.residual_stage.structure_of",
    "effcore.plan.forward": "effcore.training.planned_forward.planned_forward",
    "effcore.plan.plan_of": "effcore.records.step_plan.plan_from_fields",
    "effcore.plan.train_mode": "effcore.training.planned_forward.set_train_mode",
    "effcore.plan.trained_parameters": (
        "effcore.training.planned_forward.count_trained_parameters"
    ),
    "effcore.policies.DEFAULT_INTENSITY": "effcore.policies.combination.DEFAULT_INTENSITY",
    "effcore.policies.DEFAULT_SELECTION": "effcore.policies.combination.DEFAULT_SELECTION",
    "effcore.policies.DEFAULT_UPDATE": "effcore.policies.combination.DEFAULT_UPDATE",
    "effcore.policies.DENSE": "effcore.policies.combination.DENSE_POLICIES",
    "effcore.policies.KINDS": "effcore.policies.combination.POLICY_REGISTRIES",
    "effcore.policies.Misfit": "effcore.config.Incompatibility",
    "effcore.policies.Policies": "effcore.policies.combination.PolicyCombination",
    "effcore.policies.anatomy": "effcore.config.model_structure",
    "effcore.policies.every_policy": "effcore.policies.combination.registered_policies",
    "effcore.policies.misfit": "effcore.config.incompatibility",
    "effcore.policies.policies_of": "effcore.policies.combination.policies_of",
    "effcore.policies.run_knobs": "effcore.policies.combination.knobs_of_policies",
    "effcore.views.Portrait": "effcore.records.views.ExampleDisplay",
    "effcore.views.arrays_of": "effcore.records.views.view_arrays",
    "effcore.views.head_of": "effcore.records.views.view_header",
    "effcore.views.rebuild": "effcore.records.views.view_from_parts",
    "effcore.tasks.base.Attention": "effcore.tasks.base.ViewInputs",
    "effcore.tasks.base.Constant": "effcore.tasks.base.ConstantModel",
    "effcore.tasks.base.class_odds": "effcore.tasks.base.class_logits",
    "effcore.tasks.classes.BALANCED": "effcore.tasks.classification.BALANCED_ACCURACY",
    "effcore.energy.account.Span": "effcore.energy.meter.MeterWindow",
    "effcore.energy.base.Tenancy": "effcore.energy.sources.base.SharedUse",
    "effcore.energy.base.UNSEEN": "effcore.energy.sources.base.SHARED_USE_UNKNOWN",
    "effcore.energy.base.fault_words": "effcore.energy.sources.base.error_text_without_paths",
    "effcore.energy.baseline.dynamic": "effcore.energy.arithmetic.dynamic_energy",
    "effcore.energy.baseline.idle_lengths": "effcore.energy.arithmetic.idle_duration_text",
    "effcore.energy.baseline.rough": "effcore.energy.arithmetic.has_short_idle_readings",
    "effcore.energy.baseline.same_instrument": "effcore.energy.arithmetic.is_same_instrument",
    "effcore.energy.baseline.with_idle": "effcore.energy.arithmetic.with_idle_readings",
    "effcore.energy.cpu_model.CpuModelSource": (
        "effcore.energy.sources.cpu_estimate.CpuEstimateSource"
    ),
    "effcore.testing.example_pools": "effcore.testing.example_states",
    "effcore.testing.extremes": "effcore.testing.knob_extremes",
    "effcore.testing.declared.extremes": "effcore.testing.contracts.knob_extremes",
    "effcore.testing.resuming.Trained": "effcore.testing.contracts.TrainingTrace",
    "effcore.testing.selection.example_pools": "effcore.testing.contracts.example_states",
    "effcore.selection.base.Account": "effcore.policies.selection.base.BudgetState",
    "effcore.selection.base.Memory": "effcore.policies.selection.base.PolicyMemory",
    "effcore.selection.base.Pool": "effcore.policies.selection.base.ExampleState",
    "effcore.selection.base.Seen": "effcore.policies.selection.base.BatchOutputs",
    "effcore.selection.base.scaled_weights": (
        "effcore.policies.selection.base.normalised_correction_weights"
    ),
    "effcore.selection.parts.confidence": (
        "effcore.policies.selection.score_functions.confidence_and_correctness"
    ),
    "effcore.selection.parts.error_norm": (
        "effcore.policies.selection.score_functions.el2n_scores"
    ),
    "effcore.selection.parts.floored": (
        "effcore.policies.selection.score_functions.raise_to_class_floor"
    ),
    "effcore.selection.parts.gated": (
        "effcore.policies.selection.score_functions.least_variance_uniform_share"
    ),
    "effcore.selection.parts.proportional": (
        "effcore.policies.selection.score_functions.proportional_probabilities"
    ),
    "effcore.selection.parts.systematic": (
        "effcore.policies.selection.score_functions.systematic_sample"
    ),
    "effcore.selection.parts.winsorised": (
        "effcore.policies.selection.score_functions.winsorise_scores"
    ),
    "effcore.registry.nearest": "effcore.registry.suggest_nearest",
    "effcore.stats.Interval": "effcore.studies.statistics.MedianInterval",
    "effcore.stats.Paired": "effcore.studies.statistics.PairedDifference",
    "effcore.stats.holm": "effcore.studies.statistics.holm_adjusted",
    "effcore.stats.p_above": "effcore.studies.statistics.p_value_above",
    "effcore.stats.paired": "effcore.studies.statistics.paired_difference",
    "effcore.stats.sign_flip_p": "effcore.studies.statistics.sign_flip_p_value",
    "effcore.verdict.Difference": "effcore.studies.verdict.ArmDifference",
    "effcore.verdict.Kind": "effcore.studies.verdict.Outcome",
    "effcore.verdict.least_seeds": "effcore.studies.verdict.min_seeds_for",
    "effcore.verdict.sentence": "effcore.studies.verdict.verdict_text",
    "effcore.verdict.too_few_words": "effcore.studies.verdict.too_few_seeds_text",
    "effcore.verdict.verdicts": "effcore.studies.verdict.judge_arms",
    "effcore.selection.selective_backprop.HISTORY": (
        "effcore.policies.selection.selective_backprop.HISTORY_LENGTH"
    ),
    "effcore.intensity.base.LEVELS": "effcore.policies.intensity.base.GROWTH_LEVELS",
    "effcore.intensity.base.grown": "effcore.policies.intensity.base.grown_share",
}

#: Methods and attributes by class, old to new. An author's subclass may still define the old one.
OLD_ATTRIBUTES: dict[str, dict[str, str]] = {
    "effcore.records.RunStatus": {"final": "is_final"},
    "effcore.records.Energy": {"short": "short_text"},
    "effcore.records.EpochDrawEvent": {"pass_index": "epoch_index"},
    "effcore.records.Snapshot": {"passes": "epoch_draws"},
    "effcore.records.step_plan.StepProgress": {"anatomy": "structure"},
    "effcore.records.views.ExampleDisplay": {
        "given": "target_text",
        "spot": "picture_position",
    },
    "effcore.knobs.Controls": {
        "mark_phases": "record_phase_starts",
        "pending": "pending_requests",
        "set": "request_value",
        "stop": "request_stop",
        "take": "take_requests",
    },
    "effcore.training.ledger.FlopLedger": {
        "add": "add_cost",
        "charge": "add_step",
        "select": "add_selection",
    },
    "effcore.policies.selection.base.BudgetState": {"share_to_keep": "keep_fraction"},
    "effcore.policies.selection.kakurenbo.Kakurenbo": {"share_at": "hidden_share_at"},
    "effcore.policies.selection.base.ExampleState": {
        "account": "budget_state",
        "by_loss": "sorted_losses",
        "count_of": "count_of_share",
        "open_N": "active_mask_N",
        "pass_index": "epoch_index",
    },
    "effcore.policies.selection.base.BatchOutputs": {"pass_index": "epoch_index"},
    "effcore.policies.selection.base.SelectionPolicy": {
        "candidates": "scoring_batch_size",
        "choose": "choose_batch",
        "inclusion": "inclusion_probabilities",
        "looks_besides": "needs_extra_forward",
        "memory": "initial_memory",
        "moments": "redecide_at",
        "observe": "on_batch_end",
        "observe_scored": "on_candidates_scored",
        "observing_flops": "batch_end_flops",
        "rate_factor": "lr_multiplier",
        "refreshes": "refreshes_skipped_losses",
        "turn": "on_epoch_start",
    },
    "effcore.policies.selection.proportional_policy.ProportionalPolicy": {
        "fresh_score": "scores_from_outputs",
        "kept": "merge_scores",
        "score": "scores",
    },
    "effcore.policies.update.base.UpdatePolicy": {
        "caches": "caches_features",
        "problem": "incompatibility",
        "steady": "has_constant_plan",
    },
    "effcore.policies.intensity.base.IntensityPolicy": {
        "problem": "incompatibility",
        "steady": "has_constant_plan",
    },
    "effcore.policies.intensity.base.GrowingPolicy": {"size": "size_share"},
    "effcore.tasks.residual_stage.ResidualStage": {"silence": "zero_branches"},
    "effcore.tasks.base.ViewInputs": {"skipped": "easiest_skipped"},
    "effcore.tasks.base.Task": {
        "coarse": "active_mask",
        "count": "count_examples",
        "details": "extra_metrics",
        "memories": "view_state",
        "portrait": "display_example",
        "recall": "restore_view_state",
        "reduced": "reduce_batch",
        "remember": "record_outputs",
        "trivial": "trivial_model",
    },
    "effcore.tasks.classification.Classification": {
        "given": "class_name_of",
        "held_out": "held_out_inputs",
    },
    "effcore.energy.sources.base.SharedUse": {"words": "description"},
    "effcore.energy.sources.base.EnergySource": {
        "count": "read_counter",
        "covers": "device_type",
        "most_w": "max_power_w",
        "tenancy": "shared_use",
        "tenancy_hz": "shared_use_hz",
        "ticks": "times_counter_updates",
    },
    "effcore.energy.meter.MeterWindow": {
        "begun_s": "start_s",
        "last": "last_reading",
        "lasted_s": "duration_s",
        "sealed": "is_final",
        "window": "totals",
    },
    "effcore.energy.meter.RunMeter": {
        "age_s": "reading_age_s",
        "measures": "is_measured",
        "note_idle": "add_idle_reading",
        "opened": "has_source",
        "stepwise": "times_counter_updates",
        "ticks": "counter_updates",
        "ticks_since": "counter_updates_since",
    },
}

#: Keywords of functions, old to new. Those of a class follow from ``OLD_ATTRIBUTES``.
OLD_KEYWORDS: dict[str, dict[str, str]] = {
    "effcore.training.planned_forward.planned_forward": {"first": "first_stage"},
    "effcore.policies.selection.base.normalised_correction_weights": {"open_N": "active_mask_N"},
    "effcore.policies.selection.score_functions.proportional_probabilities": {
        "open_N": "active_mask_N"
    },
    "effcore.energy.sources.base.error_text_without_paths": {"fault": "error"},
    "effcore.testing.contracts.check_resumes": {"left_after": "leave_after"},
}
