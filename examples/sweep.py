"""How steep lines through noisy points are: `client.submit` and `client.map` as ever, and one decorator.

Usage: python3 sweep.py [SCHEDULER]

The scheduler is one that `seamless_dask.equip` has seen to (docs/own-cluster.md), or a daskserver's. Without
one, one is started here.
"""

import random
import sys
from statistics import linear_regression

from dask.distributed import Client, LocalCluster

from seamless_dask import direct, equip


@direct
def slope(seed, noise=1.0):
    """Return the slope of the line through 100 points of slope 2."""
    chance = random.Random(seed)
    points = range(100)
    return linear_regression(points, [2 * x + chance.gauss(0, noise) for x in points]).slope


def main(client):
    """Print the mean slope for several amounts of noise."""
    print(f"  0.0 {client.submit(slope, 0, noise=0.0).result():.4f}")
    for noise in (1.0, 10.0, 100.0):
        slopes = client.gather(client.map(slope, range(20), noise=noise))
        print(f"{noise:5.1f} {sum(slopes) / len(slopes):.4f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with Client(sys.argv[1]) as client:
            main(client)
    else:
        with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
            equip(client)
            main(client)
