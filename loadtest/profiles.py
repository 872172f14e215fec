"""Profiles of load: the number of users over time, and the objectives for the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

# The share of repeated inputs that objectives are for.
CACHE_RATE = 0.95
# Repeated inputs are drawn from this many for each model; the first request with each is a miss.
POOL = 100
# How often users of all models choose each; others as often as images.
WEIGHTS = {"sentiment": 4, "breast_cancer": 3, "segmentation": 2, "image": 1}
# How long a step lasts; its first third, in which users and queues settle, does not count.
STEP_SECONDS = 30.0
STEPS = 11


@dataclass(frozen=True)
class Measured:
    """The figures of a run or a part of it: seconds, shares, and requests per second."""

    requests: int
    p50: float
    p99: float
    errors: float
    hit_rate: float
    rate: float
    p9999: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """One objective, and the figure that was found."""

    name: str
    wanted: float
    found: float
    met: bool

    def __str__(self) -> str:
        sign = "at least" if self.name in ("hit_rate", "rate") else "at most"
        result = "met" if self.met else "MISSED"
        return f"{self.name}: wanted {sign} {self.wanted:g}, found {self.found:.4g}: {result}"


@dataclass(frozen=True)
class Objectives:
    """Limits: at most these seconds and share of errors, at least this share of hits and rate; None sets no limit."""

    p50: float | None = None
    p99: float | None = None
    errors: float | None = 0.0
    hit_rate: float | None = None
    rate: float | None = None

    def overridden(self, wanted: Mapping[str, float | None], *, usual: bool) -> Objectives:
        """Return these objectives, replaced by those that `wanted` gives.

        They are meant for the `usual` load, by the models' own routes with CACHE_RATE of the inputs repeated: for
        another, only `errors` of them remains.
        """
        own = self if usual else Objectives(errors=self.errors)
        return replace(own, **{name: value for name, value in wanted.items() if value is not None})

    def judge(self, found: Measured) -> list[Verdict]:
        """Return a verdict for each objective; if nothing was answered, every one is missed."""
        verdicts = []
        for field in fields(self):
            wanted, value = getattr(self, field.name), getattr(found, field.name)
            if wanted is not None:
                met = value >= wanted if field.name in ("hit_rate", "rate") else value <= wanted
                verdicts.append(Verdict(field.name, wanted, value, met and found.requests > 0))
        return verdicts


@dataclass(frozen=True)
class Profile:
    """A load: which users, how many of them over time, and what is expected of the server.

    `points` are (seconds, users), between which the number of users changes linearly. Between requests, a user waits
    for `pause` seconds, or so as to send `per_user` requests a second, or not at all.
    """

    summary: str
    users: tuple[str, ...]
    points: tuple[tuple[float, int], ...]
    objectives: Objectives
    pause: tuple[float, float] = (0.0, 0.0)
    per_user: float | None = None
    until_scaled: bool = False
    in_steps: bool = False

    @property
    def seconds(self) -> float:
        """The profile's length in seconds."""
        return self.points[-1][0]

    @property
    def peak(self) -> int:
        """The largest number of users."""
        return max(users for _, users in self.points)

    def scaled(self, minutes: float | None) -> Profile:
        """Return this profile stretched to another length; None keeps its own."""
        if minutes is None:
            return self
        factor = minutes * 60 / self.seconds
        return replace(self, points=tuple((seconds * factor, users) for seconds, users in self.points))

    def users_at(self, seconds: float) -> int | None:
        """Return how many users there are after so many seconds, None after the end."""
        for (start, before), (end, after) in zip(self.points, self.points[1:], strict=False):
            if start <= seconds < end:
                return round(before + (after - before) * (seconds - start) / (end - start))
        return None


MIXED = ("MixedUser",)
PROFILES = {
    "smoke": Profile(
        "every model a little",
        MIXED,
        ((0, 4), (30, 4)),
        Objectives(p99=1),
        pause=(0.1, 0.5),
    ),
    # The stages of the original's k6 script: 30 s, 7 min, 3 min.
    "sentiment": Profile(
        "1 to 10 users in 30 s, 7 min at 10, down to 0 in 3 min; no pauses",
        ("SentimentUser",),
        ((0, 1), (30, 10), (450, 10), (630, 0)),
        Objectives(p99=0.05, hit_rate=0.9, rate=1_000),
    ),
    # The usual pauses in Locust: 120 requests a second when all users are there.
    "image": Profile(
        "150 users, one more a second, 5 min; pauses of 0.5 to 2 s",
        ("ImageUser",),
        ((0, 1), (150, 150), (300, 150)),
        Objectives(p99=2, hit_rate=0.85, rate=100),
        pause=(0.5, 2.0),
    ),
    # 10 000 requests in 60 s by 100 users, and one with files.
    "segmentation": Profile(
        "167 requests/s for 60 s, and a file of 10 000 rows again and again",
        ("SegmentationUser", "FileUser"),
        ((0, 101), (60, 101)),
        Objectives(p99=2, hit_rate=0.85, rate=150),
        per_user=10_000 / 60 / 100,
    ),
    # As published of the GLM app: --users 10000 --spawn-rate 10 --run-time 60s, of which 600 users ever start.
    "ramp": Profile(
        "1 to 600 users in 60 s, rows alone; pauses of 1 to 3 s",
        ("SegmentationUser",),
        ((0, 1), (60, 600)),
        Objectives(p99=2),
        pause=(1.0, 3.0),
    ),
    # The same with --spawn-rate 100.
    "rush": Profile(
        "1 to 6,000 users in 60 s, rows alone; pauses of 1 to 3 s",
        ("SegmentationUser",),
        ((0, 1), (60, 6_000)),
        Objectives(p99=2),
        pause=(1.0, 3.0),
    ),
    "stress": Profile(
        "50 users without pauses for 5 min, or until --deployment has more pods",
        MIXED,
        ((0, 50), (300, 50)),
        Objectives(errors=None),
        until_scaled=True,
    ),
    "spike": Profile(
        "5 users, 100 for 20 s, 5 again",
        MIXED,
        ((0, 5), (30, 5), (30, 100), (50, 100), (50, 5), (80, 5)),
        Objectives(p99=2, errors=0.01),
        pause=(0.1, 0.5),
    ),
    "soak": Profile(
        "20 users for an hour",
        MIXED,
        ((0, 20), (3_600, 20)),
        Objectives(p99=1, hit_rate=0.85),
        pause=(0.5, 2.0),
    ),
    "steps": Profile(
        f"1 user, and twice as many every {STEP_SECONDS:.0f} s, until an objective breaks",
        MIXED,
        tuple(
            point
            for step in range(STEPS)
            for point in ((step * STEP_SECONDS, 2**step), ((step + 1) * STEP_SECONDS, 2**step))
        ),
        Objectives(p99=0.5),
        in_steps=True,
    ),
}
