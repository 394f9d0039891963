"""What an attacker writes where a text is expected, and how many inputs are made of it."""

import os
import random
import re
from pathlib import Path
from typing import Any

from resources.plain_text import visible

FUZZ = max(1, int(os.environ.get("FORGE_FUZZ", "1")))
"""A nightly run sets it: so many times more generated inputs."""

CANARY = Path(f"/tmp/forge-canary-{os.getpid()}")
"""Every payload that runs anything makes this file."""

COMMAND = f"touch {CANARY}"
CODE = f"__import__('os').system('{COMMAND}')"

BRACES = (
    "{__class__}",
    "{0}",
    "{}",
    "{a.__init__.__globals__}",
    "{step.output.__class__}",
    "{kind.parsed.__class__.__mro__}",
    "{text!r:>1000000000}",
    "{text[0]}",
    "{{" * 40,
    "%(text)s%n%s",
    "${HOME}`" + COMMAND + "`$(" + COMMAND + ")",
    "{% for x in ().__class__.__bases__ %}{{ x }}{% endfor %}",
    "{{ cycler.__init__.__globals__.os.popen('" + COMMAND + "') }}",
    "#{" + CODE + "}",
)
TERMINAL = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://127.0.0.1/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H\x1bc",
    "\x9b31m\x85\x08\x08\x7f",
    "first\rsecond\x0b\x0c",
    "safe\u202egnp.exe\u2066\u2069",
    "[bold red]markup[/bold red] [link=http://127.0.0.1/]x[/link]",
)
MARKUP = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "``` \n</code></pre><script>alert(1)</script>\n```",
    "````\n# heading\n| a | b |\n",
    "[click](javascript:alert(1)) ![x](http://127.0.0.1/x.png)",
    "<javascript:alert(1)> <http://127.0.0.1/>",
    "| a | b |\n|---|---|\n| </td></table> | `x` |",
    "`" * 300 + "\n~~~\n<!-- ",
    '[x]: http://127.0.0.1/ "t"\n\n[x]',
)
PATHS = (
    "../../../../tmp/x",
    "/etc/passwd",
    "a/../../b",
    "..\\..\\windows",
    "file:///etc/passwd",
    "con\x00.txt",
    "~root/.ssh/id_rsa",
    "a" * 300,
    ".",
    "..",
)
TEXTS = (
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff\ud800 lone",
    "\ufeffbom",
    "\u0455ubj\u0435\u0441t",  # Cyrillic letters that look Latin
    "\ufb00 \u00bd \u00b2 \u0661\u0662\u0663 \u200b\u200d\u2028\u2029",
    "e" + "\u0301" * 2000,
    "'; DROP TABLE forge.interactions; --",
    "=cmd|' /C " + COMMAND + "'!A0",
    "@SUM(1+1)*" + CODE,
    CODE,
    "!!python/object/apply:os.system ['" + COMMAND + "']",
    "*alias &anchor <<",
    "null",
    "",
    " \t\n ",
    "9" * 5000,
    "-0",
    "1e999",
    "NaN",
    "x" * 50_000,
    "a" * 3000 + "!",
)
PAYLOADS = BRACES + TERMINAL + MARKUP + PATHS + TEXTS

_RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def chance(seed: str) -> random.Random:
    """The same every time, also in CI."""
    return random.Random(f"forge/{seed}")


def a_text(random_: random.Random) -> str:
    """A payload, or several in a row."""
    count = random_.choice((1, 1, 1, 2, 3))
    return random_.choice(("", " ", "\n", "x")).join(random_.choices(PAYLOADS, k=count))


def a_value(random_: random.Random, depth: int = 0) -> Any:
    """Any JSON value: mostly of the wrong type for where it stands."""
    kind = random_.randrange(9 if depth < 4 else 6)
    match kind:
        case 0 | 1 | 2:
            return a_text(random_)
        case 3:
            return random_.choice((0, -1, 2**31, 2**63, -(2**64), 10**300, True, False, None))
        case 4:
            return random_.choice((0.1, -0.0, 1e308, 1e-320, float("nan"), float("inf")))
        case 5:
            return []
        case 6 | 7:
            return [a_value(random_, depth + 1) for _ in range(random_.randrange(4))]
        case _:
            return {
                a_text(random_)[:200]: a_value(random_, depth + 1)
                for _ in range(random_.randrange(4))
            }


def nested(opening: str, closing: str, depth: int, core: str = "") -> str:
    return opening * depth + core + closing * depth


def assert_neutral(text: str, what: str) -> None:
    """Nothing in the text commands the terminal that shows it."""
    found = _RAW.search(text)
    assert found is None, f"{what}: {found[0]!r} in {visible(text)[:300]}"
