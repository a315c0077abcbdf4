"""What a command can ask for, which runs in a sandbox or does not."""

from __future__ import annotations

import pytest

from seamless_dask.options import Options
from seamless_dask.services.jobserver.nested import Refused, confined

KEY = "0" * 64


@pytest.mark.parametrize("isolation", ["none", "auto", "bubblewrap"])
def test_what_a_sandboxed_command_asks_for_is_sandboxed(isolation: str) -> None:
    assert confined(Options(isolation=isolation), True).isolation == "bubblewrap"


def test_so_is_what_that_needs_first() -> None:
    deep = Options(isolation="none", upstream={KEY: Options(isolation="none").to_json()})
    asked = Options(upstream={KEY: deep.to_json()})
    found = confined(asked, True).of_upstream(KEY)
    assert found.isolation == "bubblewrap"
    assert found.of_upstream(KEY).isolation == "bubblewrap"
    assert confined(asked, False).of_upstream(KEY).of_upstream(KEY).isolation == "auto"


def test_an_image_is_no_way_out() -> None:
    image = Options(image="docker://debian")
    for asked in (image, Options(upstream={KEY: image.to_json()})):
        with pytest.raises(Refused, match="cannot ask for an image"):
            confined(asked, True)
    assert confined(image, False).image == "docker://debian"
