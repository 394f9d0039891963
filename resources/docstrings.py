"""The demo's subjects: docstrings of the standard library's public functions, methods and classes.

They are read from source files with ``ast``, never by importing, so that they are the same on every
machine with the same Python: no compiled-in builtins, nothing that depends on the platform.
"""

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from resources.errors import ConfigurationError
from resources.subject_record import SubjectRecord, canonical_json

MIN_CHARS, MAX_CHARS = 80, 600  # long enough to say something, short enough for two CPU cores
_MAX_SIGNATURE_CHARS = 120

# Pure Python everywhere, not split off or patched by distributions (so no tkinter, turtle, site,
# sysconfig, platform), and present in 3.11 to 3.14. The list is the data set: keep it as it is.
_MODULES = """
abc asyncio.base_events asyncio.events asyncio.futures asyncio.locks asyncio.queues
asyncio.streams asyncio.tasks base64 bdb bisect bz2 calendar cmd code codecs codeop collections
concurrent.futures._base configparser contextlib copy difflib dis email.charset email.message
email.parser email.policy email.utils filecmp fileinput fnmatch ftplib functools genericpath
getpass graphlib gzip heapq hmac html http.client http.cookiejar http.cookies http.server
imaplib inspect ipaddress json json.decoder json.encoder linecache logging logging.handlers lzma
multiprocessing.context numbers operator optparse pdb pickletools pkgutil poplib posixpath queue
quopri random rlcompleter sched secrets selectors shelve shutil smtplib socket socketserver ssl
statistics symtable tarfile tempfile textwrap threading timeit traceback tracemalloc typing
unittest.case unittest.result unittest.runner urllib.parse urllib.request urllib.robotparser
weakref wsgiref.handlers wsgiref.headers wsgiref.util xml.etree.ElementTree xml.sax.handler
xml.sax.saxutils xmlrpc.client xmlrpc.server zipfile
"""

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read_docstrings() -> Iterator[SubjectRecord]:
    """All docstrings of 80 to 600 characters, each text once, in an order that mixes the modules.

    The order is that of a hash of the qualified name, so that the first 10, 50 or 500 are a fair
    sample, and one docstring more or less in another Python moves no other.
    ConfigurationError when this Python was installed without its source files.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    records: dict[str, SubjectRecord] = {}
    texts: set[str] = set()
    for module in _MODULES.split():
        for record in _module_records(module, _source_file(library, module)):
            text = record.fields["text"]
            if record.key not in records and text not in texts:
                records[record.key] = record
                texts.add(text)
    yield from sorted(records.values(), key=lambda record: _shuffled(record.key))


def _source_file(library: Path, module: str) -> Path:
    base = library.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    raise ConfigurationError(
        "subjects.source: python_docstrings needs the standard library's source files and there "
        f"is no {base.with_suffix('.py')}; use a Python installed with its sources, "
        "or another source"
    )


def _module_records(module: str, path: Path) -> Iterator[SubjectRecord]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigurationError(
            f"subjects.source: python_docstrings cannot read {path}: {error}"
        ) from None
    waiting: list[tuple[str, ast.Module | ast.ClassDef]] = [("", tree)]
    while waiting:
        owner, body = waiting.pop(0)
        for node in body.body:
            if not isinstance(node, _Definition) or node.name.startswith("_"):
                continue
            name = f"{owner}{node.name}"
            if isinstance(node, ast.ClassDef):
                waiting.append((f"{name}.", node))
            text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
            if MIN_CHARS <= len(text) <= MAX_CHARS:
                fields = {
                    "name": name,
                    "module": module,
                    "kind": _kind(node, bool(owner)),
                    "signature": _signature(node),
                    "text": text,
                }
                content_hash = sha256(canonical_json(fields).encode()).hexdigest()
                yield SubjectRecord(f"{module}.{name}", fields, content_hash)


def _kind(node: _Definition, inside_class: bool) -> str:
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if inside_class else "function"


def _signature(node: _Definition) -> str:
    """``name(arguments)``, or ``Name(bases)``, as written; cut at 120 characters."""
    if isinstance(node, ast.ClassDef):
        inside = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
    else:
        inside = ast.unparse(node.args)
    signature = f"{node.name}({inside})"
    if len(signature) <= _MAX_SIGNATURE_CHARS:
        return signature
    return f"{signature[: _MAX_SIGNATURE_CHARS - 3]}..."


def _shuffled(key: str) -> str:
    return sha256(key.encode()).hexdigest()
