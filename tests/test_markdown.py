from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from forge_assets.markdown import code, fence, listing, table
from resources.plain_text import visible

PARSER = MarkdownIt("commonmark").enable("table")
TEXTS = st.text(alphabet=st.sampled_from("`~| \n\t\\<a#*-_[]\x1b\r\u202e"), max_size=40)


def inline(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or []]


@settings(deadline=None)
@given(TEXTS)
def test_a_fence_holds_any_text(text: str) -> None:
    opened, after = PARSER.parse(f"{fence(text)}\n\n# after")[0:2]
    assert opened.type == "fence"
    assert opened.content.removesuffix("\n") == visible(text)
    assert after.type == "heading_open"


@settings(deadline=None)
@given(TEXTS)
def test_inline_code_holds_any_text_on_one_line(text: str) -> None:
    (token, *rest) = inline(PARSER.parse(f"x {code(text)} y"))[1:]
    shown = visible(text).replace("\n", " ").replace("\t", " ") or "(empty)"
    assert token.type == "code_inline"
    assert token.content.strip(" ") == shown.strip(" ")
    assert [child.content for child in rest] == [" y"]


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_table_keeps_its_shape(rows: list[tuple[str, str]]) -> None:
    tokens = PARSER.parse(table(["one", "two"], rows))
    assert tokens[0].type == "table_open"
    assert sum(token.type == "td_open" for token in tokens) == 2 * len(rows)
    assert sum(token.type == "th_open" for token in tokens) == 2


def test_a_terminal_gets_no_control_characters() -> None:
    assert visible("\x1b[31m\u202e\x00\r\u2066\ud800") == (r"\x1b[31m\u202e\x00\r\u2066\ud800")
    assert visible("naïve\n\tcafé\u200d") == "naïve\n\tcafé\u200d"


def test_table_and_listing_as_text() -> None:
    assert table(["step", "n"], [["grade", 1], ["a", None]]) == (
        "| step  |   n |\n| ----- | --: |\n| grade |   1 |\n| a     |   - |"
    )
    assert listing([("runs", 2), ("stage", None)]) == "- runs: 2\n- stage: -"


def test_words_in_a_column_are_read_from_the_left() -> None:
    assert table(["n", "why", "%"], [["a", "no GPU", "1.5 %"], ["b", "+1 GB", None]]) == (
        "| n   | why    |     % |\n"
        "| --- | ------ | ----: |\n"
        "| a   | no GPU | 1.5 % |\n"
        "| b   | +1 GB  |     - |"
    )
