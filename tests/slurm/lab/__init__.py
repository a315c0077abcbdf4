"""A SLURM cluster with a login node, and laptops: hosts with networks and files of their own.

All of it lives in namespaces below one process (``hosts.sh``), so that several test processes can each have
one, and nothing is left when that process ends, however it ends.
"""
