"""Interface and registry of energy sources: instruments opened for a device and read.

A source returns cumulative energy; :mod:`effcore.energy.window` turns differences between
readings into energies with a quality. To add a source, add a file to this package.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from effcore.records import EnergyQuality
from effcore.records.deprecation import with_old_keywords, with_old_names
from effcore.registry import Registry


class EnergyUnavailable(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """An instrument cannot be read on this machine.

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
    """One reading of an instrument.

    Energies are cumulative from an arbitrary origin, so only differences are meaningful. An
    instrument with a point value sets ``lo = hi = point``; the meter widens the interval of a
    window by ``error_frac``. An instrument that only knows an interval leaves the points NaN,
    never 0.
    """

    t_mono: float  # time.monotonic() at the reading, s
    power_w: float  # present power; NaN where it is not known
    power_lo_w: float
    power_hi_w: float
    energy_j: float  # cumulative; NaN where only an interval is known
    energy_lo_j: float
    energy_hi_j: float
    power_average_w: float = math.nan  # mean of the last second; NaN where there is none
    # Over the shortest averaging time, for display only: its integral over a periodic load can
    # be off by a factor of two.
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
        """Return a reading with point values."""
        powers_and_energies = *(power_w,) * 3, *(energy_j,) * 3
        return cls(t_mono, *powers_and_energies, average_w, instant_w)

    @classmethod
    def interval(
        cls, t_mono: float, power_w: tuple[float, float], energy_j: tuple[float, float]
    ) -> Self:
        """Return a reading with intervals only; power and energy are (lower, upper)."""
        return cls(t_mono, math.nan, *power_w, math.nan, *energy_j)


class BoardState(NamedTuple):
    """State of a board at one time; NaN where the board does not report a value."""

    temperature_c: float
    sm_clock_mhz: float
    power_limit_w: float  # the enforced limit, which may be lower than the configured one
    throttle_reasons: tuple[str, ...] | None  # empty: not throttled; None: not reported
    utilisation_frac: float  # share of the time with any kernel running, not the load
    t: float  # time.monotonic(), s

    @property
    def throttled(self) -> bool:
        """Whether its clocks were throttled."""
        return bool(self.throttle_reasons)


#: Start of a description where shared use cannot be determined.
SHARED_USE_UNKNOWN = "it cannot be determined whether other processes use the board: "
#: The same in runs that version 0.1.0 stored.
SHARED_USE_UNKNOWN_BEFORE = "whether others use the board cannot be seen here: "


@with_old_names
class SharedUse(NamedTuple):
    """Use of a device by other processes; a shared device's energy is not the run's alone."""

    contended: bool
    description: str  # empty if no other process uses the device


@with_old_names
class EnergySource(ABC):
    """An opened instrument.

    ``read`` and ``read_counter`` are called from one thread at a time, not always the same one;
    ``state`` and ``shared_use`` from the meter's thread, possibly at the same time.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50  # a meter opens the first source, by rank, that can be read
    quality: ClassVar[EnergyQuality]  # of its energies: measured, modelled, estimated or recorded
    device_type: ClassVar[str] = "cpu"  # what it reads, as torch names it: cpu or cuda
    hz: ClassVar[float]  # readings per second that the meter takes
    #: Relative error of a window's energy; 0 where the readings' own interval includes all errors.
    error_frac: ClassVar[float] = 0.0
    #: Whether its counter updates only every few tens of ms, so that the edges of a window have
    #: to be timed against the updates.
    times_counter_updates: ClassVar[bool] = False
    #: Time between two counter updates where they are not timed, s, because polling would itself
    #: use the energy that is measured; 0 where they are timed, or the counter is continuous.
    step_s: ClassVar[float] = 0.0
    max_power_w: ClassVar[float] = math.inf  # a larger gain of the counter is a fault
    state_hz: ClassVar[float] = 0.0  # calls of state() per second; 0 where there is no state
    shared_use_hz: ClassVar[float] = 0.0  # the same for shared_use()
    source: str  # the instrument on this machine, in words
    scope: str  # what it covers, in words
    notes: tuple[str, ...] = ()  # caveats to read before quoting its energies
    device_uuid: str | None = None  # UUID of the board it reads, where it has one
    left_out: str = ""  # parts of the machine that it does not cover, in words
    card: str = ""  # product name of the board or processor; empty where unknown
    driver: str = ""  # driver or interface it reads, with the version; empty where unknown

    @classmethod
    @abstractmethod
    def open(cls, device: str) -> Self:
        """Return the instrument that covers ``device`` (``cpu``, ``cuda`` or ``cuda:N``).

        Raises:
            EnergyUnavailable: It cannot be read on this machine, or does not cover that device.
        """

    @abstractmethod
    def read(self) -> Reading:
        """Take one reading.

        Raises:
            EnergyUnavailable: The instrument did not answer.
        """

    def read_counter(self) -> Reading:
        """Take a reading of the counter alone, where that is cheaper; raises as :meth:`read`."""
        return self.read()

    def state(self) -> BoardState | None:
        """Return the state of the board, or ``None`` where it has none; never raises."""
        return None

    def shared_use(self) -> SharedUse | None:
        """Return the use by other processes, or ``None`` where unknown; never raises."""
        return None

    def finish_work(self) -> None:  # noqa: B027 - most sources have nothing to wait for
        """Wait until the device has finished all work launched so far; never raises."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing open
        """Close the instrument; never raises."""


SOURCES: Registry[EnergySource] = Registry("energy source", "effcore.energy.sources")


def open_first_source(device: str) -> tuple[EnergySource | None, tuple[str, ...]]:
    """Open the first source, by rank, that covers a device.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The source, or ``None`` and one reason per source. Reasons of sources for this kind of
        device come first, the last in rank at the front because it is the easiest to enable.
    """
    same_device_reasons: list[str] = []
    other_reasons: list[str] = []
    for source_class in SOURCES:
        try:
            return source_class.open(device), ()
        except EnergyUnavailable as error:
            text = str(error)
        except Exception as error:  # a faulty source must not stop the run
            text = f"{type(error).__name__}: {error_text_without_paths(error)}"
        is_same_device = device.startswith(source_class.device_type)
        reasons = same_device_reasons if is_same_device else other_reasons
        reasons.append(f"{source_class.title}: {text}")
    return None, (*reversed(same_device_reasons), *other_reasons)


class MeanPower:
    """Mean power of an energy counter between two readings.

    Args:
        min_gap_s: Shortest gap, s, that gives a power: below, the counter's own update period
            would dominate.
        step_s: Time between two counter updates, s. The counter's gain over a gap may miss that
            much time at its end, or include that much from before its start.

    Attributes:
        error_frac: Relative error of the last power that is due to ``step_s``.
    """

    def __init__(self, min_gap_s: float, step_s: float = 0.0) -> None:
        self._min_gap_s, self._step_s = min_gap_s, step_s
        self._last_s = self._last_j = self.error_frac = math.nan

    def __call__(self, t_mono: float, energy_j: float) -> float:
        """Return the mean power since the last call, W; NaN where it is not known."""
        gap_s, gained_j = t_mono - self._last_s, energy_j - self._last_j
        self._last_s, self._last_j, self.error_frac = t_mono, energy_j, math.nan
        if not (gap_s >= self._min_gap_s and gained_j >= 0):  # also at the first call, with NaN
            return math.nan
        self.error_frac = self._step_s / gap_s
        return gained_j / gap_s


_FOLDER_PATTERN = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\s\\/'\"()]+[\\/])+")


@with_old_keywords
def error_text_without_paths(error: Exception) -> str:
    """Return an exception's message, with the folder names of this machine removed."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _FOLDER_PATTERN.sub("", text)
