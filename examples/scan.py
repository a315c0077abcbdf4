"""Where the Hénon map stays and where it escapes: a scan of 1,000 points, with progress, failures and a plot.

Usage: python3 scan.py             the scan, in two threads of this process; it writes scan.png
       python3 scan.py SCHEDULER   the same on a cluster that `seamless_dask.equip` has seen to
       python3 scan.py --browse    what is known of it, in another process, on another day: computes nothing
"""

import sys

import dask
from dask.distributed import LocalCluster, as_completed

import seamless_dask

POINTS = [(a / 25, b / 50) for a in range(40) for b in range(25)]


@seamless_dask.direct(run="here")
def mean(a, b, steps=500):
    """Return the mean of x over the first steps of the map."""
    x = y = total = 0.0
    for step in range(steps):
        x, y = 1 - a * x * x + y, b * x
        if abs(x) > 1e6:
            raise OverflowError(f"it escapes in step {step}")
        total += x
    return total / steps


def scan(client):
    """Print how far it is, what has failed, and what the rest comes to."""
    futures = client.map(mean, [a for a, _ in POINTS], [b for _, b in POINTS])
    for number, _ in enumerate(as_completed(futures), 1):
        print(f"\r{number} of {len(futures)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    states = dict(zip(POINTS, futures, strict=True))
    failed = {point: future.exception() for point, future in states.items() if future.status == "error"}
    print(f"{len(failed)} failed")
    for (a, b), error in list(failed.items())[:3]:
        print(f"  a = {a}, b = {b}: {error}")
    found = client.gather({point: future for point, future in states.items() if point not in failed})
    tell(found)
    plot(found)


def browse():
    """Print the same of what is known."""
    calls = {point: mean.delayed(*point) for point in POINTS}
    known = {point: call for point, call in calls.items() if call.is_known()}
    (found,) = dask.compute(known)
    tell(found)


def tell(found):
    """Print extremes."""
    print(f"{len(found)} known")
    for name, (a, b) in (("least", min(found, key=found.get)), ("most", max(found, key=found.get))):
        print(f"  {name} {found[a, b]:.3f} at a = {a}, b = {b}")


def plot(found):
    """Draw the means; what has escaped stays white."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    points = axes.scatter(
        [a for a, _ in found], [b for _, b in found], s=12, c=list(found.values()), marker="s"
    )
    figure.colorbar(points, label="mean x")
    axes.set(xlabel="a", ylabel="b")
    figure.savefig("scan.png")


if __name__ == "__main__":
    if sys.argv[1:] == ["--browse"]:
        browse()
    elif len(sys.argv) > 1:
        with seamless_dask.Client(sys.argv[1]) as client:
            scan(client)
    else:
        with (
            LocalCluster(n_workers=2, threads_per_worker=1) as cluster,
            seamless_dask.Client(cluster) as client,
        ):
            seamless_dask.equip(client)
            scan(client)
