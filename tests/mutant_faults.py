"""The planted faults of ``tests.mutants``, by area: what is changed, and who must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One change of one file.

    Attributes:
        name: What is wrong then, in plain words.
        file: Path from the root of the tree.
        old: Text in it.
        new: What stands in its place.
        tests: Test files and node ids that must fail, separated by spaces.
        occurrence: Which occurrence of the text, from 1; ``None`` where there is but one.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    occurrence: int | None = None


_VERDICT = "effcore/studies/verdict.py"
_STATISTICS = "effcore/studies/statistics.py"
_LEDGER = "effcore/training/ledger.py"
_LOOP = "effcore/training/training_loop.py"
_STEP = "effcore/training/train_step.py"
_SAMPLER = "effcore/training/sampler.py"
_EPOCH_SAMPLER = "effcore/training/epoch_sampler.py"
_SELECTION = "effcore/policies/selection/base.py"
_CONFIG = "effcore/config.py"
_WINDOW = "effcore/energy/window.py"
_METER = "effcore/energy/meter.py"
_CHECKPOINT = "effcore/training/checkpoint.py"
_RESUME = "effcore/runs/resume.py"
_CHECKPOINT_FILE = "effcore/store/checkpoint_file.py"

_FLOPS_TESTS = "tests/test_flops.py"
_SPENDING_TESTS = "tests/test_spending.py"
_PASSES_TESTS = "tests/training/test_passes.py"
_PARTS_TESTS = "tests/test_parts.py"
_WINDOW_TESTS = "tests/energy/test_window.py"
_METER_TESTS = "tests/energy/test_meter.py tests/energy/test_meter_windows.py"
_RESUMING_TESTS = "tests/training/test_resuming.py"
_RESUME_TESTS = "tests/runs/test_resume_runs.py"

_VERDICT_TESTS = "tests/test_verdict.py::"
_T_DECIDES = _VERDICT_TESTS + "test_the_t_bound_decides"
_PLANTED = _VERDICT_TESTS + "test_a_planted_truth_is_the_verdict"
_SEVERAL = _VERDICT_TESTS + "test_several_arms_need_more_seeds_and_stronger_evidence"
_HOLM = _VERDICT_TESTS + "test_holm_is_as_in_the_worked_example"
_ALL_EQUAL = _VERDICT_TESTS + "test_differences_that_are_all_equal_have_a_verdict"
_ROUNDED = _VERDICT_TESTS + "test_equal_differences_leave_nothing_to_chance"

# Their texts are short, so that they outlast small changes around them.
_JUDGE_FAULTS = (
    Fault(
        "not inferior decided by the mean",
        _VERDICT,
        "full.p < NONINFERIORITY_ALPHA",
        "full.paired.mean > -margin",
        _T_DECIDES,
    ),
    Fault(
        "better decided by the mean",
        _VERDICT,
        "matched.p < SUPERIORITY_ALPHA",
        "matched.paired.mean > 0",
        _T_DECIDES,
    ),
    Fault(
        "worse decided by the mean",
        _VERDICT,
        "return self.p_below < SUPERIORITY_ALPHA",
        "return self.paired.mean < self.limit",
        _VERDICT_TESTS
        + "test_a_truth_lost_in_noise_is_inconclusive_and_says_how_many_seeds_it_takes",
    ),
    Fault(
        "not inferior is asked at 10%",
        _VERDICT,
        "SUPERIORITY_ALPHA = 0.05, 0.025",
        "SUPERIORITY_ALPHA = 0.1, 0.025",
        _T_DECIDES,
    ),
    Fault(
        "better is asked at 5% on one side",
        _VERDICT,
        "SUPERIORITY_ALPHA = 0.05, 0.025",
        "SUPERIORITY_ALPHA = 0.05, 0.05",
        _T_DECIDES,
    ),
    Fault(
        "the margin is to be won, not to be kept",
        _VERDICT,
        "(v.own, v.full) for v in arms.values()], -margin",
        "(v.own, v.full) for v in arms.values()], margin",
        _PLANTED,
    ),
    Fault(
        "policies that broke down were not asked about",
        _VERDICT,
        "count = max(planned_arms, len(arms))",
        "count = len(arms)",
        _SEVERAL,
    ),
    Fault(
        "several policies need no more seeds than one",
        _VERDICT,
        "return MIN_SEEDS if arms <= 1 else MIN_SEEDS_SEVERAL_ARMS",
        "return MIN_SEEDS",
        _SEVERAL,
    ),
    Fault(
        "nine seeds are enough for several policies",
        _VERDICT,
        "MIN_SEEDS_SEVERAL_ARMS = 6, 10",
        "MIN_SEEDS_SEVERAL_ARMS = 6, 9",
        _SEVERAL,
    ),
    Fault(
        "better for less counts as a loss",
        _VERDICT,
        "if worse and not superior:",
        "if worse:",
        _PLANTED,
    ),
    Fault(
        "worse is not said",
        _VERDICT,
        "if worse and not superior:",
        "if worse and superior:",
        _PLANTED,
    ),
    Fault(
        "a policy wins where training for less is enough",
        _VERDICT,
        "if overtrained:",
        "if overtrained and not superior:",
        _PLANTED,
    ),
    Fault(
        "as good is enough to win",
        _VERDICT,
        "Outcome.WIN if superior else Outcome.TIE",
        "Outcome.WIN",
        _VERDICT_TESTS + "test_as_good_and_no_better_than_less_is_a_tie",
    ),
    Fault(
        "a replication on two seeds decides",
        "effcore/studies/candidates.py",
        "min_seeds=min(MIN_SEEDS, 3 * len(planned) // 4)",
        "min_seeds=2",
        "tests/studies/test_candidates.py::test_a_replication_on_too_few_seeds_shows_nothing",
    ),
    Fault(
        "each study of a family is judged by itself",
        "effcore/studies/comparison.py",
        "planned = sum(len(plan.arms) for plan, _ in studies)",
        "planned = 1",
        "tests/bench/test_claim.py::test_a_cell_that_broke_down_counts_for_the_family",
    ),
    Fault(
        "a value that is not finite is judged where another is",
        _VERDICT,
        "np.isfinite(each).all()",
        "np.isfinite(values).any()",
        _VERDICT_TESTS + "test_a_value_that_is_none_is_refused",
    ),
    Fault(
        "the standard error takes the sample for the population",
        _STATISTICS,
        "difference.std(ddof=1)",
        "difference.std(ddof=0)",
        _T_DECIDES,
    ),
    Fault(
        "the two-sided interval is one of 90%",
        _STATISTICS,
        "(0.975, 0.95)",
        "(0.95, 0.95)",
        _T_DECIDES,
    ),
    Fault(
        "several questions are judged as one",
        _STATISTICS,
        "max(questions, len(p)) - np.arange(len(p))",
        "np.ones(len(p))",
        _HOLM,
    ),
    Fault(
        "a weaker answer may have the smaller corrected p",
        _STATISTICS,
        "np.maximum.accumulate(",
        "np.array(",
        _HOLM,
    ),
    Fault("a corrected p may exceed 1", _STATISTICS, "np.minimum(stepped, 1.0)", "stepped", _HOLM),
    Fault(
        "questions without an answer are not counted",
        _STATISTICS,
        "max(questions, len(p))",
        "len(p)",
        _HOLM,
    ),
    Fault(
        "equal differences at the margin are above it",
        _STATISTICS,
        "values.mean() - limit > _ROUNDING_ERROR",
        "values.mean() - limit > -_ROUNDING_ERROR",
        _ROUNDED,
    ),
    Fault(
        "rounding is taken for a difference",
        _STATISTICS,
        "_ROUNDING_ERROR = 2e-7",
        "_ROUNDING_ERROR = 0.0",
        _ROUNDED,
    ),
    Fault(
        "sign flips are drawn where all can be counted",
        _STATISTICS,
        "n_resamples=2**12 if",
        "n_resamples=2**4 if",
        _VERDICT_TESTS + "test_sign_flips_are_all_counted",
    ),
    Fault(
        "the pairs needed are those of a two-sided question",
        _STATISTICS,
        "1 - alpha, n - 1",
        "1 - alpha / 2, n - 1",
        _VERDICT_TESTS + "test_so_many_pairs_have_the_power_that_was_asked_for",
    ),
)

_LEDGER_FAULTS = (
    Fault(
        "an AdamW step costs half",
        _LEDGER,
        '"adamw": 14',
        '"adamw": 7',
        _FLOPS_TESTS,
    ),
    Fault(
        "a grouped convolution is counted as one without groups",
        _LEDGER,
        "_convolution_groups(func, args, kwargs) > 1",
        "_convolution_groups(func, args, kwargs) > 1_000_000",
        _FLOPS_TESTS,
    ),
    Fault(
        "an operation of another library is free",
        _LEDGER,
        'if func.namespace != "aten":',
        'if func.namespace == "none":',
        "tests/test_flops.py::test_an_operation_of_another_library_is_refused_though_it_is_named_like_a_free_one",
    ),
    Fault(
        "any operation that is not counted is free",
        _LEDGER,
        "return is_free or not any(",
        "return True or not any(",
        _FLOPS_TESTS,
    ),
    Fault(
        "a step is counted without its backward pass",
        _LEDGER,
        "torch.autograd.backward(losses(model_copy).mean())",
        "losses(model_copy).mean()",
        _FLOPS_TESTS,
    ),
    Fault(
        "counting a step moves the model's buffers and gradients",
        _LEDGER,
        "model_copy = copy.deepcopy(model)",
        "model_copy = model",
        _FLOPS_TESTS,
        occurrence=1,
    ),
    Fault(
        "counting a forward pass leaves the model in evaluation mode",
        _LEDGER,
        "copy.deepcopy(model).eval()",
        "model.eval()",
        "tests/test_flops.py::test_counting_a_forward_pass_leaves_the_model_in_training_mode",
    ),
    Fault(
        "frozen parameters are billed for the optimizer",
        _LEDGER,
        "count_trained_parameters(model, plan))",
        "sum(p.numel() for p in model.parameters()))",
        "tests/test_update.py",
    ),
    Fault(
        "a step is not billed",
        _LEDGER,
        "self.add_cost(cost)",
        "cost.total",
        _FLOPS_TESTS,
        occurrence=1,
    ),
    Fault(
        "selection is not part of what is spent",
        _LEDGER,
        "self.add_cost(cost)",
        "cost.total",
        _FLOPS_TESTS,
        occurrence=2,
    ),
    Fault(
        "selection shows its analytic part alone",
        _LEDGER,
        "self.selection_flops += cost.total",
        "self.selection_flops += cost.analytic",
        "tests/test_flops.py::test_selection_shows_all_that_it_costs",
    ),
    Fault(
        "analytic FLOPs pass for counted ones",
        _LEDGER,
        "self.analytic_flops += cost.analytic",
        "self.counted_flops += cost.analytic",
        _FLOPS_TESTS,
    ),
    Fault(
        "what is spent leaves out the analytic part",
        _LEDGER,
        "return self.counted_flops + self.analytic_flops",
        "return self.counted_flops",
        _FLOPS_TESTS,
    ),
    Fault(
        "each step counts twice",
        _LEDGER,
        "self.steps += 1",
        "self.steps += 2",
        _FLOPS_TESTS,
    ),
    Fault(
        "the dense reference counts a batch that is not full",
        _LOOP,
        "return considered // self._config.batch_size * ",
        "return considered / self._config.batch_size * ",
        "tests/test_spending.py::test_what_is_spent_is_steps_and_selection",
    ),
    Fault(
        "the dense reference is of one epoch",
        _LOOP,
        "self.dense_flops(self._config.epochs * self._n)",
        "self.dense_flops(self._n)",
        "tests/test_spending.py::test_what_is_spent_is_steps_and_selection",
    ),
    Fault(
        "the mean losses of batches to skip are free",
        _LOOP,
        "self._sampler.policy.decision_flops(self._n) + means",
        "self._sampler.policy.decision_flops(self._n) + 0 * means",
        "tests/test_spending.py::test_the_mean_losses_of_batches_to_skip_are_part_of_a_decision",
    ),
)

_SAMPLING_FAULTS = (
    Fault(
        "a policy's learning-rate factor (lr_multiplier) is ignored",
        _LOOP,
        "learning_rate_factor(progress) * sampler.lr_multiplier",
        "learning_rate_factor(progress)",
        "tests/test_trainer.py::test_a_policy_s_factor_multiplies_the_learning_rate",
    ),
    Fault(
        "the learning-rate factor is of a share of all, not of those that can be drawn",
        _SAMPLER,
        "drawn.sum() / n_active",
        "drawn.sum() / self.n",
        "tests/test_stacking.py tests/test_intensity.py",
    ),
    Fault(
        "KAKURENBO does not raise the learning rate for what it hides",
        "effcore/policies/selection/kakurenbo.py",
        "return 1.0 / max(drawn_fraction, 0.05)",
        "return 1.0",
        "tests/test_trainer.py::test_kakurenbo_divides_the_learning_rate_by_the_share_that_is_drawn",
    ),
    Fault(
        "KAKURENBO hides what the model is unsure of",
        "effcore/policies/selection/kakurenbo.py",
        "~(easy_N & sure_N)",
        "~easy_N",
        "tests/test_published.py",
    ),
    Fault(
        "every epoch has the same order",
        _EPOCH_SAMPLER,
        "self._seed * SEED_STRIDE + self.epoch_index",
        "self._seed * SEED_STRIDE",
        _PASSES_TESTS,
    ),
    Fault(
        "every seed has the same orders",
        _EPOCH_SAMPLER,
        "self._seed * SEED_STRIDE + self.epoch_index",
        "self.epoch_index",
        _PASSES_TESTS,
    ),
    Fault(
        "a new decision draws new numbers",
        _EPOCH_SAMPLER,
        "drawn_N = self._uniform_N < decision.pi_N",
        "drawn_N = torch.rand_like(self._uniform_N) < decision.pi_N",
        _PASSES_TESTS,
    ),
    Fault(
        "a new decision rewrites who was drawn before it",
        _EPOCH_SAMPLER,
        "self.drawn_N = drawn_N.index_copy(0, visited, self.drawn_N[visited])",
        "self.drawn_N = drawn_N",
        _PASSES_TESTS,
    ),
    Fault(
        "what fills no batch is lost with the epoch",
        _EPOCH_SAMPLER,
        "carried = self._queue[self._cursor :]",
        "carried = self._queue[:0]",
        _PASSES_TESTS,
    ),
    Fault(
        "a carried example loses its weight",
        _EPOCH_SAMPLER,
        "carried = ones if self._weights is None else self._weights[self._cursor :]",
        "carried = ones",
        _PASSES_TESTS,
    ),
    Fault(
        "every batch gets the weights of the first",
        _EPOCH_SAMPLER,
        "else self._weights[self._cursor : end]",
        "else self._weights[: end - self._cursor]",
        _PASSES_TESTS,
    ),
    Fault(
        "only drawn examples count as considered",
        _EPOCH_SAMPLER,
        "max(self._visited, int(self._order_positions[end - 1]))",
        "end",
        _PASSES_TESTS,
    ),
    Fault(
        "skipped examples behind the last batch do not count as considered",
        _EPOCH_SAMPLER,
        "self._visited = self.n",
        "self._visited += 0",
        _PASSES_TESTS,
    ),
    Fault(
        "batches left out stay among the drawn",
        _EPOCH_SAMPLER,
        "self._queue.index_select(0, skipped), False)",
        "self._queue.index_select(0, skipped), True)",
        _PASSES_TESTS + "::test_whoever_is_left_out_after_the_draw_is_not_among_the_drawn",
    ),
    Fault(
        "candidates that were not chosen stay among the drawn",
        _EPOCH_SAMPLER,
        "self.drawn_N.index_fill_(0, candidates, False)",
        "self.drawn_N.index_fill_(0, candidates, True)",
        _PASSES_TESTS + "::test_whoever_is_left_out_after_the_draw_is_not_among_the_drawn",
    ),
    Fault(
        "who cannot be drawn at the present resolution is drawn",
        _SAMPLER,
        "pi_N=decision.pi_N * active_mask_N",
        "pi_N=decision.pi_N",
        "tests/test_intensity.py tests/test_stacking.py",
    ),
    Fault(
        "a correction makes rare draws weigh less",
        _SELECTION,
        ".pow(-correction)",
        ".pow(correction)",
        "tests/test_selection.py",
    ),
    Fault(
        "InfoBatch keeps what it should drop",
        "effcore/policies/selection/infobatch.py",
        "torch.where(easy_N, 1.0 - self.drop_probability, 1.0)",
        "torch.where(easy_N, self.drop_probability, 1.0)",
        "tests/test_selection.py",
    ),
    Fault(
        "confident skip looks again at all in the same epoch",
        "effcore/policies/selection/confident_skip.py",
        "(index_N + examples.epoch_index) % self.revisit",
        "(0 * index_N + examples.epoch_index) % self.revisit",
        "tests/test_selection.py",
    ),
    Fault(
        "Stale PPS gives the newest loss the weight of the oldest",
        "effcore/policies/selection/stale_pps.py",
        "torch.lerp(before_B, fresh_B, self.smoothing)",
        "torch.lerp(fresh_B, before_B, self.smoothing)",
        "tests/test_proportional.py",
    ),
)

_BUDGET_FAULTS = (
    Fault(
        "what was spent too much is not made up for",
        _SELECTION,
        "total_spent - dense_examples - self.spent",
        "total_spent - dense_examples - keep * self.considered",
        _PARTS_TESTS,
    ),
    Fault(
        "a dense end is not paid for before it",
        _SELECTION,
        "dense_examples = dense_end * total_spent",
        "dense_examples = 0.0 * total_spent",
        _PARTS_TESTS,
    ),
    Fault(
        "without a budget a dense end is not paid for before it",
        _SELECTION,
        "dense_examples = dense_end * total_considered",
        "dense_examples = 0.0 * total_considered",
        _PARTS_TESTS,
    ),
    Fault(
        "a budget buys no more examples where some are skipped",
        _SELECTION,
        "total_spent, total_considered = self.budget, self.budget / keep",
        "total_spent, total_considered = self.budget, self.budget",
        _PARTS_TESTS,
    ),
    Fault(
        "a policy may be told to draw almost nothing",
        _SELECTION,
        "max(_MIN_KEEP_FRACTION, affordable",
        "max(0.0, affordable",
        _PARTS_TESTS,
    ),
    Fault(
        "a budget is taken as the whole of the dense FLOPs",
        _LOOP,
        "return budget * dense",
        "return dense",
        "tests/test_spending.py::test_a_budget_buys_more_passes_where_examples_are_skipped",
    ),
    Fault(
        "the budget has room for one step too many",
        _LOOP,
        "extra_flops + self._train_step.step_cost.total + self._next_scoring_flops()",
        "extra_flops + self._next_scoring_flops()",
        "tests/test_spending.py::test_a_budget_is_never_exceeded_and_used_up_to_one_step",
    ),
    Fault(
        "the cost of a decision may exceed the budget",
        _LOOP,
        "extra_flops + self._train_step",
        "0 * extra_flops + self._train_step",
        "tests/test_spending.py::test_a_decision_that_the_budget_does_not_pay_for_is_not_taken",
    ),
    Fault(
        "scoring may exceed the budget",
        _LOOP,
        "self._train_step.step_cost.total + self._next_scoring_flops()",
        "self._train_step.step_cost.total",
        "tests/test_spending.py::test_a_budget_is_never_exceeded_and_used_up_to_one_step",
    ),
    Fault(
        "what observing a step's outputs costs may exceed the budget",
        _LOOP,
        "return self.batch_end_flops",
        "return 0.0",
        "tests/test_spending.py::test_what_observing_a_step_costs_is_part_of_it",
    ),
    Fault(
        "a budget that does not pay for the first scoring is accepted",
        _LOOP,
        "least += self._train_step.scoring_flops(self._sampler.scoring_batch_size)",
        "least += 0.0",
        "tests/test_spending.py::test_a_budget_pays_at_least_for_a_step_its_decision_and_its_scoring",
    ),
    Fault(
        "a budget that does not pay for the first decision is accepted",
        _LOOP,
        "least = self.ledger.step_flops + self.decision_flops()",
        "least = self.ledger.step_flops",
        "tests/test_spending.py::test_a_budget_pays_at_least_for_a_step_its_decision_and_its_scoring",
    ),
    Fault(
        "a policy is told the budget in FLOPs, not in examples",
        _LOOP,
        "self.flops_end / per_example",
        "self.flops_end",
        "tests/test_proportional.py",
    ),
    Fault(
        "models trained beforehand count as progress",
        _LOOP,
        "(spent - self.preparation_flops) / budget",
        "spent / budget",
        "tests/test_spending.py::test_models_trained_beforehand_are_spent_and_no_progress",
    ),
    Fault(
        "what was spent beforehand is forgotten",
        _LOOP,
        "self.run_progress.preparation_flops = self.ledger.spent",
        "self.run_progress.preparation_flops = 0.0",
        "tests/test_spending.py::test_models_trained_beforehand_are_spent_and_no_progress",
    ),
    Fault(
        "progress under a budget is that of the epochs",
        _LOOP,
        "if self.flops_end is not None:\n            budget",
        "if self.flops_end is not None and spent < 0:\n            budget",
        "tests/test_trainer.py::test_learning_rates_warm_up_peak_and_decay_over_the_run",
    ),
    Fault(
        "a budget above all of it is allowed",
        _CONFIG,
        "0.01, 1.0, False,",
        "0.01, 2.0, False,",
        "tests/test_config.py",
    ),
    Fault(
        "a budget that pays for no batch is accepted",
        _CONFIG,
        "budget * batches < 1",
        "budget * batches < 0",
        "tests/test_config.py",
    ),
    Fault(
        "batches are counted for one epoch where a budget is checked",
        _CONFIG,
        "_check_budget(budget, numbers.epochs * n //",
        "_check_budget(budget, n //",
        "tests/test_config.py",
    ),
    Fault(
        "the dense reference keeps the budget",
        _CONFIG,
        "budget=None, knobs={}, changes=()",
        "knobs={}, changes=()",
        "tests/test_config.py",
    ),
)

_ENERGY_FAULTS = (
    Fault(
        "a window lasts as long as its last reading",
        _WINDOW,
        "seconds=self.seconds + gap_s",
        "seconds=gap_s",
        _WINDOW_TESTS,
    ),
    Fault(
        "the upper end of a window grows by the lower one",
        _WINDOW,
        "(now.energy_hi_j - before.energy_hi_j)",
        "(now.energy_lo_j - before.energy_lo_j)",
        _WINDOW_TESTS,
    ),
    Fault(
        "what a counter had not shown at an end has the wrong sign",
        _WINDOW,
        "[(sign * extra_j, edge)",
        "[(-sign * extra_j, edge)",
        "tests/energy/test_meter_windows.py tests/energy/test_window.py",
    ),
    Fault(
        "throttling before a window counts in it",
        _WINDOW,
        "until_s - max(since_s, self.part_start_s)",
        "until_s - since_s",
        "tests/energy/test_window.py",
    ),
    Fault(
        "of power limits the highest stays",
        _WINDOW,
        "np.fmin(",
        "np.fmax(",
        "tests/energy/test_window.py",
    ),
    Fault(
        "of other users the last look stays, not the worst",
        _WINDOW,
        "return replace(self, shared_use=shared_use) if new > known else self",
        "return replace(self, shared_use=shared_use)",
        "tests/energy/test_window.py",
    ),
    Fault(
        "pauses do not make a window's edges weigh more",
        _WINDOW,
        "self.seconds / math.sqrt(max(self.parts, 1))",
        "self.seconds",
        _WINDOW_TESTS,
    ),
    Fault(
        "the cross-check counts what lies before the window",
        _WINDOW,
        "< 2 * AVERAGE_POWER_LAG_S",
        "< -1000 * AVERAGE_POWER_LAG_S",
        "tests/energy/test_window.py",
    ),
    Fault(
        "a cross-check of a small part of a window stands for all of it",
        _WINDOW,
        "enough = self.checked_s >= MIN_CROSS_CHECK_COVERAGE_FRAC * self.seconds",
        "enough = self.checked_s > 0",
        "tests/energy/test_window.py",
    ),
    Fault(
        "two windows taken together forget why the second has no joules",
        _WINDOW,
        "merged.with_void_reason(other.void_reason)",
        "merged",
        "tests/energy/test_window.py",
    ),
    Fault(
        "a window's start and stop are taken for each other",
        _METER,
        "totals.with_untimed_edge(1 if stops else -1, edge)",
        "totals.with_untimed_edge(-1 if stops else 1, edge)",
        "tests/energy/test_meter_windows.py tests/energy/test_window.py",
    ),
    Fault(
        "a board is taken as held down for as long as nobody looks",
        _METER,
        "min(state.t, before.t + MAX_STATE_AGE_S)",
        "state.t",
        "tests/energy/test_meter.py",
    ),
    Fault(
        "a counter that fell is believed",
        _METER,
        "if now.energy_lo_j < before.energy_lo_j or now.energy_hi_j < before.energy_hi_j:",
        "if now.t_mono < before.t_mono:",
        "tests/energy/test_meter_windows.py",
    ),
    Fault(
        "a counter that leapt is believed",
        _METER,
        "if gained_j > max_power_w * (",
        "if gained_j > 1e6 * max_power_w * (",
        "tests/energy/test_meter_windows.py",
    ),
    Fault(
        "a reading that failed is not counted",
        _METER,
        "window.totals = window.totals.with_failure()",
        "window.totals = window.totals",
        _METER_TESTS,
    ),
    Fault(
        "a window that goes on through pauses is paused",
        _METER,
        "if not window.through_pauses]",
        "if window.name]",
        "tests/energy/test_meter_windows.py",
    ),
    Fault(
        "a window whose instrument failed is final",
        _METER,
        "window.is_final = not self.problem",
        "window.is_final = True",
        _METER_TESTS,
    ),
    Fault(
        "the shortest windows get joules",
        _WINDOW,
        "MIN_WINDOW_S = 0.5",
        "MIN_WINDOW_S = 0.05",
        _WINDOW_TESTS,
    ),
    Fault(
        "the upper end is lowered by the error",
        _WINDOW,
        "hi=window.hi_j * (1 + error_frac)",
        "hi=window.hi_j * (1 - error_frac)",
        _WINDOW_TESTS,
    ),
    Fault(
        "an estimate is given as a point",
        _WINDOW,
        "and source.quality is not EnergyQuality.ESTIMATED",
        "and source.quality is not None",
        _METER_TESTS,
    ),
    Fault(
        "a counter that disagrees with power is not suspect",
        _WINDOW,
        "abs(ratio - 1) > CROSS_CHECK_TOLERANCE_FRAC",
        "abs(ratio - 1) > 100 * CROSS_CHECK_TOLERANCE_FRAC",
        "tests/energy/test_window.py",
    ),
    Fault(
        "a counter that stood still gives no joules without a word",
        _WINDOW,
        "elif is_counter and window.energy_j == 0:",
        "elif is_counter and window.energy_j < 0:",
        _WINDOW_TESTS,
    ),
    Fault(
        "an end between two steps counts the whole step",
        _WINDOW,
        "min(max(elapsed_frac, 0.0), 1.0) * (",
        "1.0 * (",
        _WINDOW_TESTS,
    ),
    Fault(
        "a step is timed at the look that found it",
        _WINDOW,
        "CounterUpdate((before_t + t) / 2, before_j",
        "CounterUpdate(t, before_j",
        _WINDOW_TESTS,
    ),
    Fault(
        "a step between two looks far apart counts as well timed",
        _WINDOW,
        "is_well_timed = t - before_t <= MAX_WELL_TIMED_GAP_S",
        "is_well_timed = t - before_t >= 0",
        _WINDOW_TESTS,
    ),
    Fault(
        "steps that were missed make the period longer",
        _WINDOW,
        "updates = round(spacing_s / self.period_s) if self.period_s else 0",
        "updates = 1",
        _WINDOW_TESTS,
    ),
)

_CHECKPOINT_FAULTS = (
    Fault(
        "damaged bytes are read",
        _CHECKPOINT,
        "if zlib.crc32(body) != checksum:",
        "if zlib.crc32(body) < 0:",
        "tests/runs/test_resume_runs.py::test_a_damaged_checkpoint_is_said_to_be_so",
    ),
    Fault(
        "bytes of another kind are read",
        _CHECKPOINT,
        "if magic != _MAGIC_BYTES:",
        "if not magic:",
        "tests/runs/test_resume_runs.py::test_a_damaged_checkpoint_is_said_to_be_so",
    ),
    Fault(
        "bytes after the last array are overlooked",
        _CHECKPOINT,
        "if start != len(body):",
        "if start > len(body):",
        "tests/runs/test_resume_runs.py::test_no_bytes_are_more_than_a_message",
    ),
    Fault(
        "an array comes back flat",
        _CHECKPOINT,
        "arrays.append(raw.astype(name).reshape(shape))",
        "arrays.append(raw.astype(name))",
        "tests/runs/test_resume_runs.py::test_bytes_of_every_kind_come_back",
    ),
    Fault(
        "a run is saved while steps are unreported",
        _LOOP,
        "if not self.between_steps or self.reporter.unreported_steps:",
        "if not self.between_steps:",
        "tests/runs/test_resume_runs.py::test_nothing_is_saved_before_the_first_step_or_with_a_step_unreported",
    ),
    Fault(
        "knob changes that were replayed are replayed again",
        _LOOP,
        'list(self.config.changes)[state["replayed"] :]',
        "list(self.config.changes)",
        "tests/runs/test_resume_runs.py::test_a_resumed_run_ends_as_one_never_interrupted",
    ),
    Fault(
        "a resumed run forgets that it must decide again",
        _LOOP,
        '"decide_again": "decide_again",',
        "",
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run forgets how many epochs were empty",
        _LOOP,
        '"idle_passes": "empty_epochs",',
        "",
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run forgets when its epoch began",
        _LOOP,
        '"steps_before": "steps_before_epoch",',
        "",
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run forgets what the task has shown",
        _LOOP,
        "self.task.restore_view_state(view_state)",
        "view_state.clear()",
        "tests/training/test_resuming.py::test_every_task_is_taken_up_where_it_was[photo]",
    ),
    Fault(
        "a resumed run forgets how many examples were considered",
        _LOOP,
        '"considered": "considered",',
        "",
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run forgets what observing a step costs",
        _LOOP,
        '"observing": "batch_end_flops",',
        "",
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run forgets what was spent beforehand",
        _LOOP,
        '"prepared": "preparation_flops",',
        "",
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run forgets what it has spent",
        _LOOP,
        "setattr(self.ledger, name, value)",
        "setattr(self.ledger, name, 0 * value)",
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run draws other candidates",
        _SAMPLER,
        'restore_generator(self._choice_generator, state["random"])',
        'state["random"]',
        "tests/training/test_resuming.py::test_every_selection_policy_is_taken_up_where_it_was[selective-backprop]",
    ),
    Fault(
        "a resumed run forgets the learning-rate factor",
        _SAMPLER,
        'state["ask_again_at"], state["rate_factor"]',
        'state["ask_again_at"], 1.0',
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run forgets what its policy has kept",
        _SAMPLER,
        'copy_arrays_into(self.memory, state["memory"])',
        'state["memory"]',
        "tests/training/test_resuming.py::test_every_selection_policy_is_taken_up_where_it_was[stale-pps]",
    ),
    Fault(
        "a resumed run forgets the weights of who is queued",
        _EPOCH_SAMPLER,
        'self._weights = optional_tensor_from_array(state["weights"], self._device)',
        "self._weights = None",
        "tests/training/test_resuming.py::test_every_selection_policy_is_taken_up_where_it_was[infobatch]",
    ),
    Fault(
        "a resumed run augments with other random numbers",
        _STEP,
        'restore_generator(self._augmentation_generator, state["augment"])',
        'state["augment"]',
        "tests/training/test_resuming.py::test_every_number_that_a_run_counts_comes_back",
    ),
    Fault(
        "a resumed run's optimizer begins anew",
        _STEP,
        'restore_optimizer(self.optimizer, state["optimizer"])',
        'state["optimizer"]',
        "tests/training/test_resuming.py::test_every_selection_policy_is_taken_up_where_it_was[dense]",
    ),
    Fault(
        "a run of another version of Effcore goes on",
        _RESUME,
        '("configuration", "effcore")',
        '("configuration",)',
        "tests/runs/test_resume_runs.py::test_a_run_of_another_model_or_effcore_is_refused",
    ),
    Fault(
        "a run resumed on another machine does not say so",
        _RESUME,
        "snapshot.exploratory or bool(note)",
        "snapshot.exploratory",
        "tests/runs/test_resume_runs.py::test_a_run_resumed_on_another_machine_says_that_it_may_differ",
    ),
    Fault(
        "a resumed run keeps knob changes of after the checkpoint",
        _RESUME,
        "if change.step < step)",
        "if change.step >= 0)",
        "tests/runs/test_resume_runs.py::test_a_resumed_run_ends_as_one_never_interrupted",
    ),
    Fault(
        "a resumed run keeps rows of after the checkpoint",
        _RESUME,
        "snapshot.steps[:, : stored_checkpoint.table_row_count(STEPS_FILE)]",
        "snapshot.steps",
        "tests/runs/test_resume_runs.py::test_a_resumed_run_ends_as_one_never_interrupted",
    ),
    Fault(
        "a resumed run keeps joules of after the checkpoint",
        _RESUME,
        "energy=_energy_at_checkpoint(snapshot, stored_checkpoint.events)",
        "energy=snapshot.energy",
        "tests/runs/test_resume_runs.py::test_joules_of_after_the_checkpoint_are_taken_back",
    ),
    Fault(
        "a checkpoint that takes long is taken as often as others",
        _RESUME,
        "INTERVAL_TO_COST_RATIO * (ended_s - begun_s)",
        "0.0 * (ended_s - begun_s)",
        "tests/runs/test_resume_runs.py::test_a_checkpoint_that_takes_long_is_taken_rarely",
    ),
    Fault(
        "a run whose state cannot be kept is saved again and again",
        _RESUME,
        "self._due_s = math.inf",
        "self._due_s = ended_s = begun_s",
        "tests/runs/test_resume_runs.py::test_a_run_whose_state_cannot_be_kept_is_asked_for_it_once",
    ),
    Fault(
        "a record that is shorter than by then is gone on from",
        _CHECKPOINT_FILE,
        "< lengths[name]]",
        "< 0 * lengths[name]]",
        "tests/runs/test_resume_runs.py::test_a_damaged_checkpoint_is_said_to_be_so",
    ),
    Fault(
        "rows of a table are counted as single numbers",
        _CHECKPOINT_FILE,
        "// (8 * len(TABLE_COLUMNS[table_file]))",
        "// 8",
        "tests/runs/test_resume_runs.py::test_a_resumed_run_ends_as_one_never_interrupted",
    ),
    Fault(
        "a checkpoint is written over the old one",
        _CHECKPOINT_FILE,
        'new_file = folder / (CHECKPOINT_FILE + ".new")',
        "new_file = folder / CHECKPOINT_FILE",
        "tests/store/test_checkpoint_file.py",
    ),
    Fault(
        "a half-written checkpoint stays when its run has ended",
        _CHECKPOINT_FILE,
        'for name in (CHECKPOINT_FILE, CHECKPOINT_FILE + ".new"):',
        "for name in (CHECKPOINT_FILE,):",
        "tests/store/test_checkpoint_file.py",
    ),
)

#: By area, in the order in which they are tried.
FAULTS = {
    "judge": _JUDGE_FAULTS,
    "ledger": _LEDGER_FAULTS,
    "sampling": _SAMPLING_FAULTS,
    "budget": _BUDGET_FAULTS,
    "energy": _ENERGY_FAULTS,
    "checkpoint": _CHECKPOINT_FAULTS,
}
