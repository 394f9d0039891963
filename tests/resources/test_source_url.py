"""URLs of databases: what is shown of them, and what is refused, holds no secret."""

import pytest

from resources.source_url import parse_url, redacted, shown_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@host/db",
        "postgresql://me@host:5432/db?sslmode=require",
        "postgresql+psycopg2://host/db",
        "postgresql://me@/forge?host=/var/run/x",
        "postgresql://me@[::1]:5432/db",
        "postgresql://me@/db?host=a:1&host=b:2",
        "mysql+pymysql://me@host/db?charset=utf8mb4",
        "sqlite:////d/folder with blank/p@stings.db",
        "sqlite:///x.db",
        "sqlite://",
    ],
)
def test_without_a_secret_it_is_shown_as_written(text: str) -> None:
    assert shown_url(parse_url(text)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql://src:{SECRET}/pw@/forge?host=/run", "postgresql://src@/forge?host=/run"),
        (f"postgresql://h:9/x?user=u&password={SECRET}", "postgresql://h:9/x?user=u"),
        (f"postgresql://u:a%40{SECRET}@h/x?sslpassword={SECRET}", "postgresql://u@h/x"),
        (f"mssql+pyodbc:///?odbc_connect=PWD%3D{SECRET}", "mssql+pyodbc:///"),
    ],
)
def test_what_may_be_secret_is_not_shown(text: str, shown: str) -> None:
    assert shown_url(parse_url(text)) == shown


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"postgresql://u:a@{SECRET}@127.0.0.1:9/x", "percent-encode the password"),
        (f"postgresql://u:a@{SECRET}/b@127.0.0.1:9/x", "percent-encode the password"),
        (f"postgresql://u:a@{SECRET}?b@127.0.0.1:9/x", "percent-encode the password"),
        (f"postgresql://u/{SECRET}:b@127.0.0.1:9/x", "percent-encode the password"),
        (f"sqlite://u:a@{SECRET}@/x.db", "percent-encode the password"),
        (f"postgresql://u:a@{SECRET}:b@127.0.0.1:9/x", "is not a URL"),
        (f"postgresql://u:%zz%00{SECRET}@127.0.0.1:9/x", "holds a NUL character"),
        (f"postgresql://u:\udcff{SECRET}@127.0.0.1:9/x", "not UTF-8"),
        (f"postgresql://h/x?password=%00{SECRET}", "holds a NUL character"),
        (SECRET, "is not a URL"),
    ],
)
def test_a_url_that_would_be_misread_is_refused_without_showing_it(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        parse_url(text)
    assert SECRET not in str(caught.value)


def test_what_a_driver_says_is_cleared_of_every_secret_and_spelling() -> None:
    url = parse_url("postgresql://u:a%2Fb'c@h/x?passfile=k%20ey&sslmode=odd")
    said = """no a/b'c, a%2Fb%27c, a/b\\'c, k ey, k+ey or k%20ey at h for odd"""
    assert redacted(said, url) == "no ***, ***, ***, ***, *** or *** at h for odd"
