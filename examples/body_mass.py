"""Body mass of penguins: means by species and sex, and its straight line over flipper length.

Usage: python3 body_mass.py DIRECTORY > TABLE.csv

Every ``*.csv`` in DIRECTORY is one study with the columns ``Species``, ``Sex``,
``Flipper Length (mm)`` and ``Body Mass (g)``; birds with a missing value are left out.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import linear_regression, mean


def birds(directory):
    """Yield (species, sex, flipper length in mm, body mass in g) of every complete record."""
    for path in sorted(Path(directory).glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                values = row["Sex"], row["Flipper Length (mm)"], row["Body Mass (g)"]
                if "NA" not in values:
                    yield row["Species"].split()[0], row["Sex"].lower(), float(values[1]), float(values[2])


def main():
    """Write the table to standard output."""
    groups = defaultdict(list)
    for species, sex, flipper, mass in birds(sys.argv[1]):
        groups[species, sex].append((flipper, mass))
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["species", "sex", "birds", "mean_mass_g", "grams_per_mm"])
    for (species, sex), measured in sorted(groups.items()):
        flippers, masses = zip(*measured, strict=True)
        line = linear_regression(flippers, masses)
        table.writerow([species, sex, len(measured), f"{mean(masses):.0f}", f"{line.slope:.1f}"])


main()
