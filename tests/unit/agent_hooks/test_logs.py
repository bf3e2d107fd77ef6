from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_hooks.logs import CHUNK_LINES, LINE_MAX, Chunks, Lines


def fed(data: bytes, cuts: list[int]) -> list[str]:
    lines, found, start = Lines(), [], 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        found += lines.feed(data[start:cut])
        start = cut
    return found + lines.feed(data[start:]) + lines.feed(b"", final=True)


@given(st.binary(), st.lists(st.integers(min_value=0), max_size=5))
def test_where_the_bytes_were_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    assert fed(data, cuts) == fed(data, [])


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n", codec="utf-8"))))
def test_lines_come_out_as_they_were_written(texts: list[str]) -> None:
    assert fed("".join(text + "\n" for text in texts).encode(), []) == texts


def test_a_long_line_is_split_and_a_progress_bar_shows_its_end() -> None:
    assert [len(line) for line in fed(b"x" * (2 * LINE_MAX + 5), [])] == [LINE_MAX, LINE_MAX, 5]
    assert fed(b" 10%\r 50%\r100%\r\n", []) == ["100%"]


def test_chunks_are_numbered_without_a_hole_and_bounded() -> None:
    sent: list[dict[str, object]] = []
    chunks = Chunks(sent.append)
    for number in range(1_000):
        chunks.add("stdout", [f"{number}"])
    chunks.add("stderr", ["y" * LINE_MAX] * 10)
    chunks.close(10.0)
    expected = 1
    for event in sent:
        body = event["body"]
        assert isinstance(body, dict)
        assert body["first_line"] == expected
        assert len(body["lines"]) <= CHUNK_LINES
        assert sum(len(line["text"]) for line in body["lines"]) <= 64_000
        expected += len(body["lines"])
    assert expected == 1_011
