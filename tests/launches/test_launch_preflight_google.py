"""Whether Google knows who asks: judged by what its APIs answered."""

import pytest

from forge_assets.launches.preflight_google import LOGIN, credentials
from resources.cloud.errors import CloudError, Denied, NotFound, Throttled, TimedOut, Unavailable
from resources.cloud.listing import Listing

HEARD: Listing[object] = Listing(())


@pytest.mark.parametrize(
    "answer",
    [
        HEARD,
        Denied("Permission 'x' denied", "PERMISSION_DENIED"),
        NotFound("no such job", "NOT_FOUND"),
    ],
)
def test_an_api_that_knows_who_asks_accepts_the_credentials(answer: object) -> None:
    late = TimedOut("no answer within 15 s")
    assert credentials([late, answer], "demo", False).detail == "accepted, project demo"


@pytest.mark.parametrize(
    "answer",
    [
        Denied("Request had invalid authentication credentials.", "UNAUTHENTICATED"),
        Denied("Reauthentication is needed."),
        Denied("Getting metadata from plugin failed", "UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("emulated", [False, True])
def test_one_that_does_not_is_no(answer: Denied, emulated: bool) -> None:
    found = credentials([HEARD, answer], "demo", emulated)
    assert (found.state, found.fix) == ("no", LOGIN)


@pytest.mark.parametrize(
    "answer",
    [
        TimedOut("no answer within 15 s"),
        Unavailable("503", "UNAVAILABLE"),
        Throttled("not asked again for 3 s: our own limit"),
    ],
)
def test_without_any_answer_it_is_not_known_and_stops(answer: CloudError) -> None:
    found = credentials([answer], "demo", False)
    assert (found.state, found.stops, found.detail) == ("unknown", True, str(answer))


def test_emulators_need_none() -> None:
    assert credentials([HEARD], "demo", True).state == "not_applicable"
