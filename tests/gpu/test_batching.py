from hypothesis import given
from hypothesis import strategies as st

from resources.gpu.batching import Row, plan_batches

ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 9)), max_size=30
)


def _rows(*prompts: str, new: int = 4) -> list[Row]:
    return [Row(index, [ord(sign) for sign in text], new) for index, text in enumerate(prompts)]


@given(ROWS, st.integers(1, 9), st.integers(1, 200), st.booleans())
def test_every_row_is_planned_once_and_within_the_limits(
    made: list[tuple[list[int], int]], max_batch: int, budget: int, share: bool
) -> None:
    rows = [Row(index, tokens, new) for index, (tokens, new) in enumerate(made)]
    plans = plan_batches(rows, max_batch, budget, share)
    assert sorted(row.index for plan in plans for row in plan.rows) == list(range(len(rows)))
    for plan in plans:
        assert len(plan.rows) <= max_batch
        assert len(plan.rows) == 1 or len(plan.rows) * plan.width <= budget
        for group in plan.groups:
            assert share or group.shared == 0
            assert len({tuple(row.tokens[: group.shared]) for row in group.rows}) == 1
            assert all(len(row.tokens) > group.shared for row in group.rows)
            assert all(len(row.tokens) - group.shared <= plan.suffix_width for row in group.rows)


def test_rows_of_one_template_share_its_beginning_whatever_their_order() -> None:
    rows = _rows(
        "A: summarize x", "B: grade this", "A: summarize y", "B: grade that", "A: summarize zz"
    )
    (plan,) = plan_batches(rows, 10, 10_000)
    assert [(group.shared, len(group.rows)) for group in plan.groups] == [
        (len("A: summarize "), 3),
        (len("B: grade th"), 2),
    ]


def test_identical_prompts_keep_one_token_of_their_own() -> None:
    (plan,) = plan_batches(_rows("same", "same"), 10, 10_000)
    assert plan.prefix_width == 3
    assert plan.suffix_width == 1


def test_batches_are_of_even_size() -> None:
    rows = _rows(*(f"p{number:03d}" for number in range(33)))
    assert [len(plan.rows) for plan in plan_batches(rows, 32, 10_000)] == [17, 16]


def test_a_tight_budget_still_gives_even_batches() -> None:
    rows = _rows(*(f"p{number:03d}" for number in range(10)))
    width = plan_batches(rows, 10, 10_000)[0].width
    assert [len(plan.rows) for plan in plan_batches(rows, 10, 9 * width)] == [5, 5]


def test_rows_of_like_length_are_batched_together() -> None:
    rows = _rows(*("p" * 5 + "x" * size for size in (1, 90, 2, 91, 3, 92)))
    plans = plan_batches(rows, 3, 10_000)
    assert [sorted(len(row.tokens) for row in plan.rows) for plan in plans] == [
        [6, 7, 8],
        [95, 96, 97],
    ]
