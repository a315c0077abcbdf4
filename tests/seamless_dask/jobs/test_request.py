"""What is asked for, as others are told it."""

from __future__ import annotations

import json

import pytest

from hashserver.checksum import Checksum
from seamless_dask.jobs.request import JobRequest, requests_in
from seamless_dask.model.options import Options
from seamless_dask.protocol.jobs import PROTOCOL, Refused

KEY = Checksum("0" * 64)
WHOLE = JobRequest(KEY, Options(cpus=2, fresh=True), need_bytes=True, detached=True, asker="me")


@pytest.mark.parametrize("request_", [WHOLE, JobRequest(KEY, asker="me")])
def test_it_comes_back_as_it_was(request_: JobRequest) -> None:
    assert JobRequest.from_file("me", KEY, request_.to_file()) == request_
    assert JobRequest.from_message(request_.message()) == request_


@pytest.mark.parametrize("options", ["{}", '{"fresh":true}'])
def test_a_file_of_earlier_versions_is_read(options: str) -> None:
    """There `fresh` stood beside the options, and in them as well or not."""
    wishes = {"need_bytes": True, "fresh": True, "detached": False}
    written = json.dumps({"options": options, **wishes}).encode()
    assert JobRequest.from_file("me", KEY, written) == JobRequest(KEY, Options(fresh=True), True, asker="me")


@pytest.mark.parametrize("here", ["this daskserver", "who runs the command"])
def test_another_version_is_told_alike_by_all_who_are_asked(here: str) -> None:
    with pytest.raises(Refused) as caught:
        requests_in(b'{"protocol": 7, "jobs": []}', here)
    assert caught.value.status == 409
    assert str(caught.value).startswith(f"the client speaks protocol 7 of the jobserver, {here} {PROTOCOL}: ")
