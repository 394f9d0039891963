"""Hostile records, and the files that hold them: JSONL, CSV, Parquet."""

import csv
import io
import json
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile.payloads import FUZZ, PAYLOADS, a_text, a_value, chance, nested

GENERATED = 60 * FUZZ
"""Files of each kind; a JSONL or CSV file holds six records."""

LINES: tuple[bytes, ...] = (
    b'{"key": ',
    b'{"key": "k", "text": "a",}',
    b'{"key": "k"} {"key": "k2"}',
    b'{"key": "k", "key": "k2", "text": 1, "text": 2}',
    b'{"key": "k", "__proto__": {"x": 1}, "constructor": 1, "__class__": "y"}',
    b'{"key": "k", "n": NaN}',
    b'{"key": "k", "n": Infinity, "m": -Infinity}',
    b'{"key": "k", "n": 1e999}',
    b'{"key": "k", "n": ' + b"9" * 6000 + b"}",
    b'{"key": "k", "n": ' + b"9" * 4000 + b"}",
    b'{"key": 1e999}',
    b'{"key": 12345678901234567890123456789012345678901234567890}',
    b'{"key": "k", "t": ' + nested("[", "]", 99).encode() + b"}",
    b'{"key": "k", "t": ' + nested("[", "]", 5000).encode() + b"}",
    b'{"key": "k", "t": ' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}",
    b'{"key": "k", "t": "\\u0000"}',
    b'{"key": "k", "t": "\\ud800"}',
    b'{"key": "k\\u0000"}',
    b'{"\\u0000": 1, "key": "k"}',
    b'{"key": "../../etc/passwd", "text": "x"}',
    b'{"key": ""}',
    b'{"key": null}',
    b'{"key": {"a": 1}}',
    b'{"key": true}',
    b'{"key": "' + b"k" * 5000 + b'"}',
    b'\xff\xfe{"key": "k"}',
    b'{"key": "\xc3\x28"}',
    b'\xef\xbb\xbf{"key": "bom", "text": "t"}',
    b"\x00" * 100,
    b"[1, 2]",
    b"null",
    b'"text"',
    b"3",
    b"",
    b" \t",
    b'{"key": "long", "t": "' + b"x" * 1_100_000 + b'"}',
    b'{"' + b"f" * 100_000 + b'": 1, "key": "k"}',
    b"{" + b", ".join(b'"f%d": 1' % n for n in range(5000)) + b"}",
    b"\x1b[31m",
    b"\r\r\r",
    b'{"key": "a\\rb\\u001b[2J", "text": "\\u202e"}',
)
CSV_FILES: tuple[bytes, ...] = (
    b"",
    b"\n\n\n",
    b"key,text\n",
    b'key,text\n"open,1\n',
    b'key,text\n"a"b,1\n',
    b"key,key\n1,2\n",
    b"key,\n1,2\n",
    b",".join(b"c%d" % n for n in range(50_000)) + b"\n1\n",
    b",".join([b"same"] * 50_000) + b"\n1\n",
    b"key,text\nk,a,b,c\nk\n,\n",
    b"key,text\n\x00,\x00\n",
    b"key,text\nk,\xff\xfe\n",
    b"key,text\r\n=cmd|'/C calc'!A0,@SUM(1)\r\n",
    b"key,text\rk,old mac\r",
    b"\xff\xfek\x00e\x00y\x00",
    b'key,text\nk,"' + b"line\n" * 300_000 + b'"\n',
    b"\x1b[31mkey\x1b[0m,te\x00xt\nk,t\n",
    b"<script>,{__class__}\nk,t\n",
    b"PAR1",
)
PARQUET_FILES: tuple[bytes, ...] = (
    b"",
    b"PAR1",
    b"PAR1PAR1",
    b"PAR1" + b"\x00" * 100 + b"PAR1",
    b"PAR1" + b"\xff" * 64 + b"\xff\xff\xff\x7fPAR1",
    b"not parquet",
)


def jsonl_files() -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(LINES):
        yield f"line {number}", line + b'\n{"key": "good", "text": "t"}\n'
        yield f"line {number} alone", line
    for number in range(GENERATED):
        random_ = chance(f"jsonl/{number}")
        lines = [a_line(random_) for _ in range(6)]
        yield f"jsonl {number}", _damaged(b"\n".join(lines), random_)


def csv_files() -> Iterator[tuple[str, bytes]]:
    for number, content in enumerate(CSV_FILES):
        yield f"csv {number} by hand", content
    for number in range(GENERATED):
        random_ = chance(f"csv/{number}")
        file = io.StringIO(newline="")
        writer = csv.writer(file)
        writer.writerow(("key", "text", random_.choice(("more", a_text(random_)[:100]))))
        for row in range(6):
            writer.writerow((f"{row}{a_text(random_)[:50]}", a_text(random_), a_text(random_)))
        content = file.getvalue().encode(errors="surrogatepass")
        yield f"csv {number}", _damaged(content, random_)


def parquet_files() -> Iterator[tuple[str, bytes]]:
    for number, content in enumerate(PARQUET_FILES):
        yield f"parquet {number} by hand", content
    for number in range(GENERATED // 2):
        random_ = chance(f"parquet/{number}")
        texts = [a_text(random_).encode(errors="replace").decode() for _ in range(5)]
        columns: dict[str, Any] = {
            "key": pa.array(texts),
            "number": pa.array([float("nan"), float("inf"), -0.0, 1e308, None]),
            "when": pa.array([2**62, -(2**62), 0, None, 1], pa.timestamp("us")),
            "raw": pa.array([b"\xff\x00", b"", None, texts[0].encode(), b"\xed\xa0\x80"]),
            random_.choice(PAYLOADS[:20]): pa.array([[1], [], None, [None], [2, 3]]),
        }
        file = io.BytesIO()
        pq.write_table(pa.table(columns), file)
        yield f"parquet {number}", _damaged(file.getvalue(), random_)


def a_line(random_: random.Random) -> bytes:
    """A record with hostile names and values, some of them good enough to be taken."""
    if random_.random() < 0.2:
        return random_.choice(LINES)
    record = {
        "key": random_.choice((a_text(random_)[:900], random_.randrange(10**6))),
        "text": a_text(random_),
        a_text(random_)[:100]: a_value(random_),
    }
    return json.dumps(record, ensure_ascii=random_.random() < 0.8).encode(errors="surrogatepass")


def _damaged(content: bytes, random_: random.Random) -> bytes:
    if not content or random_.random() < 0.6:
        return content
    place = random_.randrange(len(content))
    return random_.choice(
        (
            content[:place],
            content[:place] + random_.randbytes(4) + content[place + 4 :],
            content[:place] + b"\x00" + content[place:],
            content + content,
        )
    )
