"""What a model, or a server that poses as one, may answer."""

import json
from collections.abc import Iterator

from tests.hostile.payloads import FUZZ, PAYLOADS, a_text, a_value, chance, nested

GENERATED = 260 * FUZZ

BY_HAND: tuple[str, ...] = (
    *PAYLOADS,
    "a" * 40_000 + "!",
    "x" * 2_000_000,
    "word " * 100_000,
    "\x00" * 10_000,
    "\ud83d",
    "{" * 100_000,
    "[" * 100_000,
    nested("[", "]", 900),
    nested('{"a": ', "}", 900, "1"),
    nested('{"a": ', "}", 60, "1"),
    nested('{"left": {"right": ', "}}", 24, "0"),
    '{"a": 1, "a": 2}',
    '{"__proto__": {"a": 1}, "a": "x"}',
    '{"a": NaN}',
    '{"a": Infinity}',
    '{"a": 1e999}',
    '{"a": ' + "9" * 6000 + "}",
    '{"a": ' + "9" * 4000 + "}",
    '{"a": "\\u0000\\ud800"}',
    '{"\\u0000": 1}',
    '{"a": "' + "a" * 50_000 + '!"}',
    "[" + "1," * 100_000 + "1]",
    '{"a": "</script><script>alert(1)</script>"}',
    "```json\n{}\n```",
    "yes\x00",
    "yes\u202e",
    " yes ",
    "YES",
    "\uff59\uff45\uff53",
)


def outputs() -> Iterator[str]:
    yield from BY_HAND
    for number in range(GENERATED):
        random_ = chance(f"output/{number}")
        match random_.randrange(4):
            case 0:
                yield json.dumps(a_value(random_), ensure_ascii=random_.random() < 0.5)
            case 1:
                yield json.dumps({"a": a_value(random_), a_text(random_)[:50]: 1})
            case 2:
                text = json.dumps({"a": a_text(random_)})
                yield text[: random_.randrange(len(text))]
            case _:
                yield a_text(random_)
