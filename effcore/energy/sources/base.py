"""What every energy source is: an instrument that can be opened for a device and read.

A source answers "how much so far"; ``effcore.energy.meter`` turns differences of its
answers into joules with their quality. Adding an instrument is adding a file here.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from effcore.records import EnergyQuality
from effcore.registry import Registry


class EnergyUnavailable(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """An instrument cannot be read here.

    Args:
        reason: Why, in words for a reader who does not know the instrument.
        remedy: What would make it readable.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at an instrument.

    Energies are cumulative since an origin of the instrument's choosing, so that only
    differences mean anything. An instrument with a point value sets ``lo = hi = point``:
    its error belongs to a window, which the meter widens by ``error_frac``. One that
    only knows an interval leaves the points NaN, never 0.

    Attributes:
        t_mono: ``time.monotonic()`` at the reading, s.
        power_w: Present power, W; NaN where it is not known.
        power_lo_w: Lower end of its interval, W.
        power_hi_w: Upper end of its interval, W.
        energy_j: Cumulative energy, J; NaN where only an interval is known.
        energy_lo_j: Cumulative lower end, J.
        energy_hi_j: Cumulative upper end, J.
        power_average_w: Mean power of the last second, W, where the instrument says so.
        power_instant_w: Power over the instrument's shortest time, W. For looking only:
            its sum over a periodic load can be off by a factor of two.
    """

    t_mono: float
    power_w: float
    power_lo_w: float
    power_hi_w: float
    energy_j: float
    energy_lo_j: float
    energy_hi_j: float
    power_average_w: float = math.nan
    power_instant_w: float = math.nan

    @classmethod
    def point(
        cls,
        t_mono: float,
        power_w: float,
        energy_j: float,
        average_w: float = math.nan,
        instant_w: float = math.nan,
    ) -> Self:
        """Return the reading of an instrument that knows values, not intervals."""
        energies = (energy_j, energy_j, energy_j)
        return cls(t_mono, power_w, power_w, power_w, *energies, average_w, instant_w)

    @classmethod
    def interval(
        cls, t_mono: float, power_w: tuple[float, float], energy_j: tuple[float, float]
    ) -> Self:
        """Return the reading of an instrument that only knows (lower, upper) ends."""
        return cls(t_mono, math.nan, *power_w, math.nan, *energy_j)


class BoardState(NamedTuple):
    """What a board was doing at one instant; NaN where it does not say."""

    temperature_c: float
    sm_clock_mhz: float
    power_limit_w: float  # the limit in force, not the one set
    throttle_reasons: tuple[str, ...] | None  # what holds its clocks down; None: not told
    utilisation_frac: float  # share of the time with a kernel running, not a load
    t: float  # time.monotonic(), s

    @property
    def throttled(self) -> bool:
        """Whether anything held its clocks down."""
        return bool(self.throttle_reasons)


#: How the words on others begin where nothing shows whether there are any.
SHARED_USE_UNKNOWN = "whether others use the board cannot be seen here: "


class SharedUse(NamedTuple):
    """Who else uses a board; joules of a shared one are not attributable to a run."""

    contended: bool
    description: str  # empty where this process is known to have the board to itself


class EnergySource(ABC):
    """An opened instrument.

    ``read`` and ``read_counter`` are called from one thread at a time, not always the same one;
    ``state`` and ``shared_use`` by the meter's thread, perhaps beside them.

    Attributes:
        quality: How its joules come to be known.
        device_type: The kind of device that it reads, as torch names it, ``cpu`` or ``cuda``.
        hz: Readings per second worth taking.
        error_frac: Stated relative error of a window's joules; 0 where the reading's own
            interval already says everything.
        source: The instrument as found here, in words.
        scope: What it covers, in words.
        notes: What a reader must know before quoting it.
        times_counter_updates: Whether its counter moves in steps of many ms, so that the edges of a
            window are worth timing against them.
        step_s: Time between two such steps where they cannot be timed, s: looking often would
            itself take what is measured. 0 where they are timed, or there are none.
        max_power_w: More than it can show; what a counter gains beyond that is no energy.
        state_hz: Looks per second at :meth:`state`; 0 where it has none.
        shared_use_hz: The same for :meth:`shared_use`.
        device_uuid: The board it reads, where it has such a name.
        left_out: Parts of the machine that it does not cover, in words.
        card: The board or processor by its product's name, where that is known.
        driver: What is asked and its version, where that is known.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    quality: ClassVar[EnergyQuality]
    device_type: ClassVar[str] = "cpu"
    hz: ClassVar[float]
    error_frac: ClassVar[float] = 0.0
    times_counter_updates: ClassVar[bool] = False
    step_s: ClassVar[float] = 0.0
    max_power_w: ClassVar[float] = math.inf
    state_hz: ClassVar[float] = 0.0
    shared_use_hz: ClassVar[float] = 0.0
    source: str
    scope: str
    notes: tuple[str, ...] = ()
    device_uuid: str | None = None
    left_out: str = ""
    card: str = ""
    driver: str = ""

    @classmethod
    @abstractmethod
    def open(cls, device: str) -> Self:
        """Return the instrument that covers ``device`` (``cpu``, ``cuda`` or ``cuda:N``).

        Raises:
            EnergyUnavailable: It cannot be read here, or does not see that device.
        """

    @abstractmethod
    def read(self) -> Reading:
        """Take one reading.

        Raises:
            EnergyUnavailable: The instrument did not answer.
        """

    def read_counter(self) -> Reading:
        """Take a reading of the counter alone, where that is cheaper; as :meth:`read`."""
        return self.read()

    def state(self) -> BoardState | None:
        """Return what the board is doing; never raises."""
        return None

    def shared_use(self) -> SharedUse | None:
        """Return who else uses the board; never raises."""
        return None

    def finish_work(self) -> None:  # noqa: B027 - most sources have nothing to wait for
        """Wait until the device has done what it was given so far; never raises."""

    @abstractmethod
    def close(self) -> None:
        """Let the instrument go; never raises."""


SOURCES: Registry[EnergySource] = Registry("energy source", "effcore.energy.sources")

_FOLDER_PATTERN = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\s\\/'\"()]+[\\/])+")


def error_text_without_paths(error: Exception) -> str:
    """Return what a fault says, without the folders of this machine."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _FOLDER_PATTERN.sub("", said)
