"""A colony of penguins over many years: weather, ice, food, breeding, survival, and what becomes of them all.

Usage: python3 colony.py [YEARS]

The model has three steps, each a function whose calls are found again: `climate` makes the years of one
scenario, `simulate` lets one colony live through them, and `summary` looks at many colonies. A sweep over
scenarios asks for all of them at once. Everything else is a helper, and nothing says which step needs which:
an edit of `hatching` runs the simulations again, and no climate; one of `quantile` only the summaries.
"""

import math
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random
from statistics import fmean

from seamless_dask import delayed

COLONIES = 3
"""Of one scenario."""

ADULT = 4
"""The age in years at which a bird breeds for the first time."""


# ---------------------------------------------------------------- climate


class Ice(Enum):
    """How far the sea ice reaches in a winter."""

    SCARCE = "scarce"
    NORMAL = "normal"
    HEAVY = "heavy"


@dataclass(frozen=True)
class Scenario:
    """What is assumed of the years to come."""

    name: str
    warming: float = 0.0
    """In kelvins a year."""
    variability: float = 0.8
    """Of one year to the next, in kelvins."""
    memory: float = 0.4
    """How much of an anomaly remains in the year after."""


@dataclass(frozen=True)
class Year:
    """The conditions of one year."""

    number: int
    anomaly: float
    ice: Ice
    krill: float
    """Food, as a share of what a full colony needs."""


def anomalies(scenario, years, random):
    """Yield the temperature of each year above its mean: a trend, and noise with a memory."""
    noise = 0.0
    for number in range(years):
        noise = scenario.memory * noise + random.gauss(0, scenario.variability)
        yield scenario.warming * number + noise


def ice_of(anomaly):
    """Return how much ice a winter has."""
    if anomaly > 1.0:
        return Ice.SCARCE
    return Ice.HEAVY if anomaly < -1.0 else Ice.NORMAL


def krill_after(ice, before):
    """Return the food of a year: krill grows under ice, and takes two years to recover."""
    target = {Ice.SCARCE: 0.55, Ice.NORMAL: 1.0, Ice.HEAVY: 1.25}[ice]
    return before + (target - before) / 2


@delayed
def climate(scenario, years, seed):
    """Return the years of a scenario."""
    random = Random(seed)
    krill, found = 1.0, []
    for number, anomaly in enumerate(anomalies(scenario, years, random)):
        ice = ice_of(anomaly)
        krill = krill_after(ice, krill)
        found.append(Year(number, anomaly, ice, krill))
    return found


# ---------------------------------------------------------------- life


@dataclass(frozen=True)
class Rates:
    """How the birds of a colony live in a good year."""

    chick: float = 0.60
    juvenile: float = 0.78
    adult: float = 0.90
    eggs: int = 2
    hatching: float = 0.62
    room: int = 240
    """Nests."""


@dataclass
class Colony:
    """The birds of one place, by age."""

    ages: Counter = field(default_factory=Counter)

    @property
    def size(self):
        """All birds."""
        return self.ages.total()

    @property
    def adults(self):
        """Birds that are old enough to breed."""
        return sum(number for age, number in self.ages.items() if age >= ADULT)

    def __iter__(self):
        return iter(sorted(self.ages.items()))


def founded(birds, random):
    """Return a colony as it is met: many young birds, few old ones."""
    ages = Counter()
    for _ in range(birds):
        ages[min(20, int(random.expovariate(1 / 6)))] += 1
    return Colony(ages)


def logistic(x):
    """Return a number between 0 and 1."""
    return 1 / (1 + math.exp(-x))


def fed(rate, krill, crowding):
    """Return a rate of survival where food is short: the more birds share it the more it counts."""
    shortage = max(0.0, crowding - krill)
    return rate * (1 - 0.5 * logistic(4 * shortage - 2) + 0.5 * logistic(-2))


def survival(age, rates, year, crowding):
    """Return the chance of a bird to live for one more year."""
    if age >= 20:
        return 0.5 * rates.adult
    rate = rates.chick if age == 0 else rates.juvenile if age < ADULT else rates.adult
    return fed(rate, year.krill, crowding)


def hatching(rates, year):
    """Return the chance of an egg: late ice makes the way to the sea long."""
    way = {Ice.SCARCE: 1.0, Ice.NORMAL: 0.95, Ice.HEAVY: 0.7}[year.ice]
    return rates.hatching * way * min(1.0, year.krill)


def drawn(number, chance, random):
    """Return how many of a number have luck."""
    return sum(random.random() < chance for _ in range(number))


def chicks(colony, rates, year, random):
    """Return how many chicks hatch: pairs without a nest do not breed."""
    pairs = min(colony.adults // 2, rates.room)
    return drawn(pairs * rates.eggs, hatching(rates, year), random)


def after(colony, rates, year, random):
    """Return the colony one year later."""
    crowding = colony.adults / (2 * rates.room)
    ages = Counter({0: chicks(colony, rates, year, random)})
    for age, number in colony:
        ages[age + 1] += drawn(number, survival(age, rates, year, crowding), random)
    return Colony(+ages)


@delayed
def simulate(years, rates, seed, birds=400):
    """Return the number of birds in each year of one colony."""
    random = Random(seed)
    colony = founded(birds, random)
    sizes = [colony.size]
    for year in years:
        colony = after(colony, rates, year, random)
        sizes.append(colony.size)
    return sizes


# ---------------------------------------------------------------- what becomes of them


@dataclass(frozen=True)
class Outcome:
    """Of all colonies of one scenario."""

    scenario: str
    mean: float
    low: float
    high: float
    growth: float
    """In percent a year."""
    extinct: int

    def row(self):
        """Return a line of the table."""
        span = f"{self.low:.0f}-{self.high:.0f}"
        return f"{self.scenario:10} {self.mean:6.0f} {span:>9} {self.growth:+6.1f} {self.extinct:8}"


HEADER = f"{'scenario':10} {'birds':>6} {'range':>9} {'%/year':>6} {'extinct':>8}"


def quantile(values, share):
    """Return a quantile of some values, between two of them where it falls there."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def growth(sizes):
    """Return the growth of one colony in percent a year."""
    if not sizes[-1]:
        return -100.0
    return 100 * ((sizes[-1] / sizes[0]) ** (1 / (len(sizes) - 1)) - 1)


def is_extinct(sizes):
    """Tell whether a colony can come back no more."""
    return sizes[-1] < 2


@delayed
def summary(name, colonies):
    """Return what becomes of the colonies of one scenario."""
    last = [sizes[-1] for sizes in colonies]
    return Outcome(
        name,
        fmean(last),
        quantile(last, 0.1),
        quantile(last, 0.9),
        fmean(map(growth, colonies)),
        sum(map(is_extinct, colonies)),
    )


# ---------------------------------------------------------------- the sweep

STEADY = Scenario("steady")
SCENARIOS = (
    STEADY,
    replace(STEADY, name="restless", variability=1.6),
    replace(STEADY, name="warming", warming=0.08),
)


def outcome(scenario, years, rates):
    """Return what is to be computed for one scenario; nothing runs yet."""
    colonies = [simulate(climate(scenario, years, seed), rates, seed=1000 + seed) for seed in range(COLONIES)]
    return summary(scenario.name, colonies)


def main():
    """Ask for all scenarios at once, and print their table."""
    import dask

    years = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    asked = [outcome(scenario, years, Rates()) for scenario in SCENARIOS]
    known = sum(each.is_known() for each in asked)
    print(f"{known} of {len(asked)} are known", file=sys.stderr)
    print(HEADER)
    for found in dask.compute(*asked):
        print(found.row())


if __name__ == "__main__":
    main()
