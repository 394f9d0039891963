"""`alerts:` of forge.yaml: whom it takes, and that no secret stands in the file."""

import pytest
from pydantic import ValidationError

from forge_assets.alerts_config import AlertsConfig

SLACK = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


def fault(**section: object) -> str:
    with pytest.raises(ValidationError) as raised:
        AlertsConfig.model_validate(section)
    (error,) = raised.value.errors()
    return str(error["msg"])


def test_without_the_section_nobody_is_told() -> None:
    assert AlertsConfig() == AlertsConfig(to=(), base_url=None, warnings=True)


def test_names_of_variables_and_urls_without_secrets_are_taken() -> None:
    to = ["env:SLACK_URL", "json://127.0.0.1:9000/hook", "syslog://", "mailto://me@localhost"]
    config = AlertsConfig.model_validate({"to": to, "base_url": "http://host:3000/"})
    assert list(config.to) == to
    assert config.base_url == "http://host:3000"


@pytest.mark.parametrize(
    "url",
    [
        "json://user:hunter22@host/hook",
        f"slack://{SLACK}/#general",
        f"https://hooks.slack.com/services/{SLACK}",
        "mailto://user:hunter22@gmail.com",
        "discord://123456789/abcdefghijkl",
        "tgram://123456789:abcdefg_hijklmnop/12315544",
        "json://host/hook?+X-Api-Key=hunter22",
        "json://host/hook?-token=hunter22",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    said = fault(to=[url])
    assert "password or token does not belong here" in said
    assert "env:NAME" in said
    for secret in ("hunter22", "TIiajk", "abcdefg"):
        assert secret not in said


@pytest.mark.parametrize("value", ["bogus://x", "127.0.0.1:9000", "", "mailto://", "http://h/x"])
def test_what_apprise_does_not_know_is_refused(value: str) -> None:
    assert "is no URL that apprise knows" in fault(to=[value])


@pytest.mark.parametrize("value", ["env:", "env:NOT A NAME", "env:1X"])
def test_a_variable_needs_a_name(value: str) -> None:
    assert "names no environment variable" in fault(to=[value])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("host:3000", "such as http://127.0.0.1:3000"),
        ("http://", "such as http://127.0.0.1:3000"),
        ("http://h/?x=1", "such as http://127.0.0.1:3000"),
        ("http://me:pw@host", "has a user or password"),
    ],
)
def test_the_base_url_is_where_people_open_dagster(value: str, said: str) -> None:
    assert said in fault(base_url=value)
