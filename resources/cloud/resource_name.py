"""Names of resources, which Google writes with the project's number here and with its id there."""


def tail(name: str) -> str:
    """The part that is the same in both."""
    return name.split("/locations/", 1)[-1]


def same(name: str | None, other: str | None) -> bool:
    """Whether both name one resource; None names none."""
    return name is not None and other is not None and tail(name) == tail(other)


def short(name: str) -> str:
    """Its last part: what people call it."""
    return name.rsplit("/", 1)[-1]
