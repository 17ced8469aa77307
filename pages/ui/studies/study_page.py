"""What the Compare and Frontier pages share: start, choose, follow, present and download a study.

A sweep is a kind of study here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pandas as pd
import streamlit as st

from effcore.report import to_csv, to_json, to_parquet
from effcore.runs.manager import DeviceBusyError, shared_run_manager
from effcore.store import StoreError
from effcore.store.labels import Labels
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.comparison import StudyResult
from effcore.studies.frontier import SweepResult
from effcore.studies.plan import StudyPlan
from effcore.studies.study_job import StudyJob, current_study_job, start_study_job
from effcore.studies.sweep import SweepPlan
from pages.ui.common import (
    Download,
    draw_cards,
    draw_downloads,
    pin_sidebar_bar,
    shorten_untrusted_text,
    show_error,
)
from pages.ui.display_names import parsed_plan, planned_run_count, study_picker_label
from pages.ui.presenting import (
    draw_leave_bar,
    hide_page_frame,
    is_presenting,
    link_to_present,
    show_address,
    show_nothing_to_present,
)
from pages.ui.studies.progress import (
    RemainingWork,
    follow_job,
    follow_job_elsewhere,
    follow_other_job,
    is_running_elsewhere,
)
from pages.ui.studies.stored_study import LOST_RUN_REMEDY

PlanT = TypeVar("PlanT", bound=StudyPlan | SweepPlan)
ResultT = TypeVar("ResultT", bound=StudyResult | SweepResult)


@dataclass(frozen=True)
class StudyKind(Generic[PlanT, ResultT]):
    """What differs between the page of studies and the page of sweeps.

    Attributes:
        name: ``study`` or ``sweep``: the parameter in the address, and part of keys and texts.
        plural: Its plural.
        page: File of the page.
        page_name: Name of the page.
        key_infix: Distinguishes keys of the same buttons on the two pages.
        title: Title of the page.
        introduction: Explanation shown while there is none of the kind.
        cards: Titles and texts shown below the introduction.
        choose_plan: Draws the settings; returns the plan, the runs at a time, and why there is no
            plan.
        load: Loads a result; raises ``ValueError`` for a damaged plan, ``StoreError`` for the rest.
    """

    name: str
    plural: str
    page: str
    page_name: str
    key_infix: str
    title: str
    introduction: str
    cards: tuple[tuple[str, str], ...]
    choose_plan: Callable[[], tuple[PlanT | None, int, str]]
    load: Callable[[StoredStudy], ResultT]


@dataclass
class StudyPage(Generic[PlanT, ResultT]):
    """One run of the page's script.

    Attributes:
        kind: The kind of the page.
        job: The study or sweep that this process runs or ran last, of either kind.
        is_running: Whether it runs.
        plan: The plan chosen in the sidebar; ``None`` if the settings are invalid.
        jobs: Runs at a time.
        labels: Names given to studies, by id.
    """

    kind: StudyKind[PlanT, ResultT]
    job: StudyJob | None = None
    is_running: bool = False
    plan: PlanT | None = None
    jobs: int = 1
    labels: Mapping[str, Labels] = field(default_factory=dict)

    def draw(
        self,
        show: Callable[[StoredStudy, ResultT], None],
        present: Callable[[StoredStudy, ResultT], None],
    ) -> None:
        """Draw the whole page.

        Args:
            show: Draws the result of the chosen study.
            present: Draws it in presenter mode.
        """
        show_address()
        self.job = current_study_job()
        self.is_running = self.job is not None and not self.job.ended.is_set()
        if is_presenting():
            self._present(present)
            return
        st.title(self.kind.title)
        self._draw_settings_and_start()
        studies = self._list_stored()
        if studies is None:
            return
        stored = self._choose_stored(studies)
        if stored is None:
            self._show_introduction()
        elif (result := self._load(stored)) is not None:
            show(stored, result)
        if self.is_running and self.job is not None:
            if stored is not None and stored.study_id != self.job.study_id:
                follow_other_job(self.job)
            if self.job.ended.is_set():
                st.rerun()  # it ended while the page was drawn

    def _present(self, present: Callable[[StoredStudy, ResultT], None]) -> None:
        """Draw the study in the address, or the newest one, in presenter mode."""
        hide_page_frame()
        studies, wanted = self._list_stored(), st.query_params.get(self.kind.name)
        study_id = next(iter(studies or {}), None) if wanted is None else wanted
        if studies is not None and study_id is None:
            show_nothing_to_present()
        stored = None if study_id is None else (studies or {}).get(study_id)
        if stored is not None and (result := self._load(stored)) is not None:
            present(stored, result)
        query = {} if study_id is None else {self.kind.name: study_id}
        draw_leave_bar(self.kind.page, self.kind.page_name, **query)

    def _draw_settings_and_start(self) -> None:
        kind = self.kind
        with st.sidebar:
            top = st.container(key=f"{kind.name}-bar")  # the start button, above the settings
            pin_sidebar_bar(f"{kind.name}-bar")
            self.plan, self.jobs, unusable = kind.choose_plan()
        with top:
            # A callback would use the settings from the previous script run.
            if st.button(
                f"Start {kind.name}", type="primary", width="stretch",
                icon=":material/play_arrow:", disabled=self.plan is None or self.is_running,
                key=f"start-{kind.name}",
                help=f"An incomplete {kind.name} with the same settings continues.",
            ):  # fmt: skip
                self.start(self.plan)
            if unusable:
                show_error(unusable)
        if problem := st.session_state.pop(self.problem_key, None):
            show_error(problem, f"The {kind.name} could not start.")

    @property
    def problem_key(self) -> str:
        """Session key of the reason why a study could not start."""
        return f"{self.kind.name}_problem"

    def start(self, plan: StudyPlan | SweepPlan | None) -> None:
        """Start or continue a study or a sweep, and open it."""
        if (study_id := self.start_job(plan)) is not None:
            st.query_params[self.kind.name] = study_id
        st.rerun()

    def start_job(self, plan: StudyPlan | SweepPlan | None) -> str | None:
        """Start or continue a study or a sweep; return its id, or store why it cannot start.

        Without a plan the button is disabled, but a script may still press it.
        """
        if plan is None:
            return None
        try:
            return start_study_job(shared_run_manager(), plan, self.jobs).study_id
        except DeviceBusyError as error:
            title = error.active.description().title
            problem = f"{title} trains on the same device: stop it or wait until it ends"
        except (StoreError, RuntimeError, ValueError) as error:
            problem = str(error)
        st.session_state[self.problem_key] = problem
        return None

    def _list_stored(self) -> dict[str, StoredStudy] | None:
        """Return the stored studies by id, newest first; show a problem, and a wrong address."""
        kind, wanted = self.kind, st.query_params.get(self.kind.name)
        store = shared_run_manager().store
        try:
            listed = StudyTable(store).list_studies(sweeps=kind.name == "sweep")
            self.labels = store.all_labels()
        except StoreError as error:
            show_error(error, f"The {kind.plural} could not be listed.")
            return None
        studies = {study.study_id: study for study in listed}
        if wanted is not None and wanted not in studies:
            st.warning(
                f"There is no {kind.name} {shorten_untrusted_text(wanted)} in this store.",
                icon=":material/link_off:",
            )
        return studies

    def _choose_stored(self, studies: Mapping[str, StoredStudy]) -> StoredStudy | None:
        """Draw the picker; return the study in the address, or the newest one."""
        if not studies:
            return None
        name, wanted = self.kind.name, st.query_params.get(self.kind.name)
        ids = list(studies)
        picked = st.selectbox(
            name.capitalize(), ids, index=ids.index(wanted) if wanted in ids else 0,
            format_func=lambda id_: study_picker_label(studies[id_], self.labels.get(id_)),
            key=f"{name}-picker-{wanted}",
        )  # fmt: skip
        if picked != wanted:
            st.query_params[name] = picked
        return studies[picked]

    def _load(self, stored: StoredStudy) -> ResultT | None:
        """Return the result, or show on the page why it cannot be read."""
        try:
            return self.kind.load(stored)
        except (ValueError, StoreError) as error:
            remedy = f". {LOST_RUN_REMEDY}" if isinstance(error, StoreError) else ""
            show_error(f"{error}{remedy}", f"This {self.kind.name} cannot be read.")
            return None

    def link_to_present(self, stored: StoredStudy) -> None:
        """Link to the study in presenter mode."""
        link_to_present(self.kind.page, **{self.kind.name: stored.study_id})

    def show_progress(self, stored: StoredStudy, remaining: RemainingWork, missing: str) -> bool:
        """Show the progress, or offer to continue; return whether the study is under way.

        Args:
            stored: The study.
            remaining: What it has left to do.
            missing: What it lacks, as text; empty if it is complete.
        """
        name, job = self.kind.name, self.job
        if job is not None and job.study_id == stored.study_id:
            if not job.ended.is_set():
                follow_job(job, name, remaining)
                return True
            if job.problem:
                show_error(job.problem, f"The {name} ended early.")
        if missing and is_running_elsewhere(stored.study_id):
            follow_job_elsewhere(stored.study_id, name, remaining, planned_run_count(stored) or 0)
            return True
        if missing:
            st.info(missing, icon=":material/hourglass_empty:" if is_presenting() else None)
            if not is_presenting() and st.button(
                "Continue", icon=":material/play_arrow:", key="go-on", disabled=self.is_running
            ):
                self.start(parsed_plan(stored))
        return False

    def _show_introduction(self) -> None:
        st.write(self.kind.introduction)
        # A phone hides the sidebar, and with it the other start button.
        if st.button(
            f"Start this {self.kind.name}", icon=":material/play_arrow:",
            disabled=self.plan is None or self.is_running, key=f"start{self.kind.key_infix}-here",
        ):  # fmt: skip
            self.start(self.plan)
        if self.kind.cards:
            draw_cards(self.kind.cards)

    def offer_command_and_downloads(
        self,
        stored: StoredStudy,
        command: str,
        make_report: Callable[[], str],
        make_table: Callable[[], pd.DataFrame],
        record: Mapping[str, Any],
    ) -> None:
        """Show the command of the same study, and offer its report, table and JSON record."""
        st.code(command, language="shell", wrap_lines=True)
        downloads = (
            Download("Report (HTML)", ".html", make_report),
            Download("Table (CSV)", ".csv", lambda: to_csv(make_table())),
            Download("Table (Parquet)", ".parquet", lambda: to_parquet(make_table())),
            Download("Record (JSON)", ".json", lambda: to_json(record)),
        )
        with st.container(horizontal=True):
            draw_downloads(
                f"{self.kind.name}-{stored.study_id}", downloads, f"download{self.kind.key_infix}"
            )
