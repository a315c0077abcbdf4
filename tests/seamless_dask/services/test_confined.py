"""What a command can ask for, which runs in a sandbox or does not."""

from __future__ import annotations

import pytest

from seamless_dask.jobs.confinement import confined
from seamless_dask.model.options import Options
from seamless_dask.protocol.jobs import Refused

KEY = "0" * 64
SANDBOXED = Options()


@pytest.mark.parametrize("isolation", ["none", "auto", "bubblewrap"])
def test_what_a_sandboxed_command_asks_for_is_sandboxed(isolation: str) -> None:
    assert confined(Options(isolation=isolation), SANDBOXED).isolation == "bubblewrap"


def test_so_is_what_that_needs_first() -> None:
    deep = Options(isolation="none", upstream={KEY: Options(isolation="none").to_json()})
    asked = Options(upstream={KEY: deep.to_json()})
    found = confined(asked, SANDBOXED).of_upstream(KEY)
    assert found.isolation == "bubblewrap"
    assert found.of_upstream(KEY).isolation == "bubblewrap"
    assert confined(asked, None).of_upstream(KEY).of_upstream(KEY).isolation == "auto"


def test_an_image_is_no_way_out() -> None:
    image = Options(image="docker://debian")
    for asked in (image, Options(upstream={KEY: image.to_json()})):
        with pytest.raises(Refused, match="cannot ask for an image"):
            confined(asked, SANDBOXED)
    assert confined(image, None).image == "docker://debian"


def upstream(options: Options) -> Options:
    return Options(upstream={KEY: options.to_json()})


OWN_CHOICE = [
    Options(prologue=("echo wrong",)),
    Options(metavars={"BASH_FUNC_sort%%": "() { echo wrong; }"}),
    Options(modules=("/seamless/work/inputs/module",)),
    Options(modules=("gcc", "./module")),
    Options(source=KEY),
    Options(ignored={"n_jobs": ["json/1", KEY]}),
]


@pytest.mark.parametrize("asked", OWN_CHOICE)
def test_it_chooses_nothing_that_no_identity_tells(asked: Options) -> None:
    for options in (asked, upstream(asked), upstream(upstream(asked))):
        with pytest.raises(Refused, match="a sandboxed command cannot ask for"):
            confined(options, SANDBOXED)
        assert confined(options, None) == options


def test_it_may_pass_on_what_the_user_has_given_to_it() -> None:
    given = Options(prologue=("umask 077",), metavars={"A": "1", "B": "2"})
    for asked in (given, Options(metavars={"B": "2"}), Options(prologue=given.prologue)):
        assert confined(asked, given)._replace(isolation="auto") == asked
    for asked in (Options(metavars={"B": "3"}), Options(prologue=("umask 077", "echo wrong"))):
        with pytest.raises(Refused):
            confined(asked, given)


def test_software_of_the_host_goes_by_its_name() -> None:
    asked = Options(modules=("gcc/12.2", "samtools"), conda="lab", cpus=2, time_limit=5.0)
    assert confined(asked, SANDBOXED)._replace(isolation="auto") == asked
