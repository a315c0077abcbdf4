"""How flipper length and body mass of penguins hang together, as a function whose calls are found again.

Usage: python3 flippers.py
"""

import csv
from statistics import correlation

from seamless_dask import Directory, direct


def birds(tables):
    """Yield (sex, flipper length in mm, body mass in g) of every complete record."""
    for path in sorted(tables.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                values = row["Sex"], row["Flipper Length (mm)"], row["Body Mass (g)"]
                if "NA" not in values:
                    yield row["Sex"].lower(), float(values[1]), float(values[2])


@direct
def flippers(tables, sex):
    """Return the correlation of flipper length and body mass of all birds of one sex."""
    lengths, masses = zip(*(bird[1:] for bird in birds(tables) if bird[0] == sex), strict=True)
    return round(correlation(lengths, masses), 3)


for sex in ("female", "male"):
    print(sex, flippers(Directory("penguins"), sex))
