"""What of a shell goes with a command that is submitted in it."""

from __future__ import annotations

from seamless_dask.model.variables import of_submission, put_in_force

SHELL = {
    "PATH": "/tools:/bin",
    "CONDA_PREFIX": "/envs/lab",
    "SLURM_JOB_ID": "17",
    "SLURM_JWT": "secret",
    "SEAMLESS_STORE": "/data",
    "SEAMLESS_PROFILE": "cluster",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "PYTHONPATH": "/mine",
}


def test_what_commands_see_and_settings_go_and_secrets_do_not() -> None:
    kept = {"PATH", "CONDA_PREFIX", "SLURM_JOB_ID", "SEAMLESS_STORE", "SEAMLESS_PROFILE"}
    assert of_submission(SHELL) == {name: SHELL[name] for name in kept}


def test_what_the_shell_did_not_have_is_taken_away() -> None:
    environment = {
        "PATH": "/bin",
        "VIRTUAL_ENV": "/of/the/queue",
        "SEAMLESS_DATABASE": "/other",
        "HOME": "/h",
    }
    put_in_force({"PATH": "/tools"}, environment)
    assert environment == {"PATH": "/tools", "HOME": "/h"}
