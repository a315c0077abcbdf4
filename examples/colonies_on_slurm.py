"""The sweep of `colony.py`, in jobs of a batch system that are started from here: from a login node, say.

Usage: python3 colonies_on_slurm.py [YEARS]

How large a job is says ``~/.config/dask/jobqueue.yaml``. The certificate is that of the page about clusters
of one's own (`docs/own-cluster.md`), which all nodes have; they need not share a directory with this host.
"""

import os
import sys

from colony import HEADER, SCENARIOS, Rates, outcome
from dask.distributed import Client, as_completed
from dask_jobqueue import SLURMCluster
from distributed import Security

import seamless_dask

JOBS = 2


def encrypted():
    """Return what has all of Dask's connections encrypted."""
    cert, key = (os.path.expanduser(f"~/.dask-tls/{name}.pem") for name in ("cert", "key"))
    pairs = {f"tls_{role}_{name}": path for role in ("client", "scheduler", "worker")
             for name, path in (("cert", cert), ("key", key))}  # fmt: skip
    return Security(require_encryption=True, tls_ca_file=cert, **pairs)


def main():
    """Ask for all scenarios at once, and print what becomes of each as soon as it is known."""
    years = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with SLURMCluster(security=encrypted()) as cluster, Client(cluster) as client:
        seamless_dask.equip(client)
        cluster.adapt(maximum_jobs=JOBS)  # none where all is known
        print(HEADER)
        asked = [client.compute(outcome(scenario, years, Rates())) for scenario in SCENARIOS]
        for _, found in as_completed(asked, with_results=True):
            print(found.row())


if __name__ == "__main__":
    main()
