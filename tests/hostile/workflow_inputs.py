"""Hostile workflow files: written by hand where a known trick exists, and by chance."""

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.hostile.payloads import (
    BRACES,
    COMMAND,
    FUZZ,
    PAYLOADS,
    a_text,
    a_value,
    chance,
    nested,
)

GENERATED = 400 * FUZZ
HEAD = "workflow: w\nsteps:\n- name: a\n  model: m\n  prompt: hi\n"

TAGS = (
    f"!!python/object/apply:os.system ['{COMMAND}']",
    f"!!python/object/new:os.system ['{COMMAND}']",
    f"!!python/object/apply:subprocess.Popen [['touch', '{COMMAND.split()[1]}']]",
    "!!python/object:os.environ {}",
    "!!python/name:os.system ''",
    "!!python/module:os ''",
    "!!python/tuple [1, 2]",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!timestamp 2020-01-01",
    "!!int ''",
    "!!int '-'",
    "!!float ''",
    "!!float 'x'",
    "!!bool 'x'",
    "!!map 'x'",
    "!!seq {a: 1}",
    "!!str [a]",
    "!<tag:evil.example,2000:x> y",
    "!local {a: 1}",
    "=",
    "<<",
    "*nowhere",
    "&self [*self]",
    "&self {a: *self}",
    "0x" + "f" * 9000,
    "1" + ":01" * 4000,
    "1" + ":01" * 600 + ".5",
    "0b" + "1" * 20000,
    "1e99999",
    ".nan",
    "-.inf",
    "2020-01-01",
    "'\\ud800'",
    '"\\ud800\\udc00\\udfff"',
    '"\\0"',
    "'" + "x" * 50_000 + "'",
)
PATTERNS = (
    "(a+)+$",
    "(a|aa)+$",
    "(a|a)*b",
    "((a*)*)*b",
    r"(.*)\1\1\1$",
    "(?:a?){500}a{500}",
    "(?R)",
    "(?:a|(?R))+b",
    "((?1)|a)b",
    "(?>(?>a+)+)+!",
    "(?:aaaaaaaaaabbbbbbbbbb){e<=15}",
    "(?b)(?:aaaaabbbbb){e<=9}",
    "(?if)(\u00df|ss|a)+$",
    "a{99999999999999999999}",
    "((a{0,65535}){0,65535}){0,65535}",
    "(" * 3000 + ")" * 3000,
    "(?:" * 2000,
    "[a",
    "(?a)(?u)a",
    r"\L<x>",
    r"\N{NO SUCH NAME}\p{Script=Evil}",
    "(?P<a>x)(?P=b)",
    "(?<=(a+)+)b",
    "*",
    "x" * 50_000,
    "|".join(f"a{n}" for n in range(1000)),
    "\x00",
    "(?#" + COMMAND + ")",
)
SCHEMAS: tuple[Any, ...] = (
    {"$ref": "http://127.0.0.1:9/schema.json"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "https://json-schema.org/draft/2020-12/schema"},
    {"$ref": "#"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"$dynamicRef": "#x", "$defs": {"x": {"$dynamicAnchor": "x", "$dynamicRef": "#x"}}},
    {"$ref": "#/allOf/99999999999999999999", "allOf": [{}]},
    {"$ref": "#/allOf/" + "9" * 5000, "allOf": [{}]},
    {"$schema": "http://evil.example/x", "$id": "http://127.0.0.1:9/"},
    {"$id": ["x"], "$anchor": {}, "$ref": 3},
    {"type": "nothing"},
    {"type": ["string", "string", 3]},
    {"type": "string", "pattern": "^(a+)+$"},
    {"type": "string", "pattern": r"^(a+)+\1$"},
    {"type": "string", "pattern": "((a{0,1000}){0,1000}){0,1000}"},
    {"type": "string", "pattern": "(" * 3000 + ")" * 3000},
    {"patternProperties": {"(": {}}},
    {"patternProperties": {"^(x+x+)+y$": {"type": "integer"}}},
    {"type": "array", "minItems": 10**18, "maxItems": -1},
    {"type": "string", "maxLength": 10**300},
    {"type": "integer", "multipleOf": 0},
    {"enum": []},
    {"enum": list(range(2_000))},
    {"const": "\x00"},
    {"required": "x", "properties": []},
    {"properties": {"__proto__": {"const": 1}, "__class__": {"type": "string"}}},
    {"not": {"not": {"not": True}}},
    {"allOf": [{"allOf": [{"allOf": []}]}]},
    {"format": "regex", "contentMediaType": "application/x-python"},
    {"unevaluatedProperties": False, "dependentSchemas": {"a": {"$ref": "#"}}},
    {f"k{n}": n for n in range(1000)},
)
NAMES = (
    *(
        "../../x",
        "/etc",
        "a/b",
        "a\\b",
        "..",
        ".",
        "CON",
        "a.b",
        "a b",
        "a\n",
        "a\x00",
        "é",
        "\u0430",
    ),
    *("gate", "results", "subjects", "launches", "monitor", "", "A", "1a", "a" * 101, "a-b", "$a"),
    *("__class__", "constructor", "a\u200b", "\uff41", "--help", "-rf", "%s", "a;b", "`a`"),
)

_SLOTS = (
    *(("workflow",), ("name",), ("model",), ("prompt",), ("system",), ("needs",), ("retries",)),
    *(("tolerate",), ("generate",), ("output",), ("when",), ("when", "path"), ("when", "op")),
    *(("when", "value"), ("when", "step"), ("generate", "stop"), ("generate", "temperature")),
    *(("generate", "max_new_tokens"), ("generate", "seed"), ("output", "pattern")),
    *(("output", "one_of"), ("output", "json_schema"), ("output", "min_chars"), ("evil",)),
)


def workflow_inputs() -> Iterator[tuple[str, bytes]]:
    """(what it is, content of the file)."""
    for number, text in enumerate(_by_hand()):
        yield f"workflow {number} by hand", text.encode(errors="surrogatepass")
    for number in range(GENERATED):
        random_ = chance(f"workflow/{number}")
        yield f"workflow {number} by chance", _by_chance(random_)


def _by_hand() -> Iterator[str]:
    for tag in TAGS:
        yield f"{HEAD}  output: {tag}\n"
        yield f"{HEAD}  retries: {tag}\n"
        yield f"evil: {tag}\n{HEAD}"
    for pattern in PATTERNS:
        yield _file(output={"pattern": pattern})
    for schema in SCHEMAS:
        yield _file(output={"json_schema": schema})
    for name in NAMES:
        yield _file(name=name)
        yield json.dumps({"workflow": name, "steps": [{"name": "a", "model": "m", "prompt": "x"}]})
    for braces in BRACES:
        yield _file(prompt=f"Say {braces}")
    yield from _bombs()


def _bombs() -> Iterator[str]:
    """Small files that grow, and files that are no mapping."""
    yield "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    yield "a0: &a0 {k: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)
    )
    inline = "{k: 1}"
    for n in range(30):
        inline = f"{{<<: [&b{n} {inline}, *b{n}, *b{n}]}}"
    yield f"top: {inline}\n"
    yield "a: &a {<<: *a}\n"
    for opening, closing in ("[]", "{}"):
        for depth in (90, 150, 400):
            yield f"{HEAD}  output: {nested(opening, closing, depth)}\n"
    yield f"{HEAD}  output: " + "[" * 3_000
    yield f"{HEAD}  when: " + "{a: " * 120 + "1" + "}" * 120
    yield f"{HEAD}  output: {{json_schema: {nested('{not: ', '}', 40, '{}')}}}\n"
    yield f"{HEAD}  output: {{json_schema: {{const: {nested('[', ']', 80)}}}}}\n"
    yield f"{HEAD}{HEAD}"
    yield f"{HEAD}  prompt: again\n"
    yield "%YAML 9.9\n---\n" + HEAD
    yield f"{HEAD}---\n{HEAD}"
    yield "? {a: b}\n: c\n"
    yield "? [a]\n: c\n"
    yield from ("", "\ufeff", "\x00", "null", "[]", "3", "- a", "{", "\t- x", "a: b: c", "&a", "!!")
    yield HEAD + "#" * 1_100_000
    yield "\x1b[31m: 1\n"
    yield json.dumps({"workflow": "w", "steps": [], "\x1b[2J\u202e": 1})
    yield f"{HEAD}  output: {{one_of: [{', '.join(f'x{n}' for n in range(3000))}]}}\n"
    yield _file(needs=["a"])
    yield _file(prompt="{" + "a" * 100_000)
    yield _file(prompt="{a" + " " * 100_000 + "}")
    yield _file(prompt="{a}" * 50_000)


def _by_chance(random_: random.Random) -> bytes:
    step: dict[str, Any] = {"name": "b", "model": "m", "prompt": "Of {text}: {a.output}"}
    step |= {"needs": ["a"], "generate": {}, "output": {"min_chars": 0}}
    content: dict[str, Any] = {"workflow": "w"}
    for _ in range(random_.choice((1, 1, 2))):
        slot = random_.choice(_SLOTS)
        value = _fitting(slot[-1], random_)
        if slot == ("workflow",):
            content["workflow"] = value
        elif len(slot) == 1:
            step[slot[0]] = value
        else:
            section = step.setdefault(slot[0], {})
            step[slot[0]] = (section if isinstance(section, dict) else {}) | {slot[1]: value}
    first = {"name": "a", "model": "m", "prompt": "x {text}", "output": {"one_of": ["p", "q"]}}
    content["steps"] = [first, step]
    text = json.dumps(content, ensure_ascii=random_.random() < 0.7)
    return _damaged(text.encode(errors="surrogatepass"), random_)


def _fitting(slot: str, random_: random.Random) -> Any:
    """Half of the time something of the right kind, so that it gets past the first check."""
    if random_.random() < 0.4:
        return a_value(random_)
    match slot:
        case "prompt" | "system":
            return f"Say {random_.choice(BRACES)} {a_text(random_)}"
        case "pattern":
            return random_.choice(PATTERNS[-12:])
        case "json_schema":
            return random_.choice(SCHEMAS)
        case "one_of" | "stop" | "needs":
            return random_.sample(PAYLOADS, k=random_.randrange(1, 5))
        case "path":
            return ".".join(random_.choice(("0", "9" * 5000, "a", "__class__")) for _ in range(3))
        case _:
            return a_text(random_)


def _damaged(content: bytes, random_: random.Random) -> bytes:
    """One file in five is cut, doubled or has foreign bytes in it."""
    place = random_.randrange(len(content))
    match random_.randrange(20):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + random_.randbytes(8) + content[place:]
        case 2:
            return content + b"\n" + content
        case 3:
            return content.decode(errors="replace").encode("utf-16")
        case _:
            return content


def _file(**step: Any) -> str:
    return json.dumps(
        {"workflow": "w", "steps": [{"name": "a", "model": "m", "prompt": "x"} | step]}
    )
