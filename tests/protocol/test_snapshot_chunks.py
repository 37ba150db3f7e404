"""A snapshot is cut into pieces that put together give it back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsrealtime.protocol.codec import SNAPSHOT_CHUNK, snapshot_chunks


def joined(chunks: list[bytes]) -> dict[str, Any]:
    """What a client makes of the pieces: lists of one name are appended to each other."""
    whole: dict[str, Any] = {}
    for chunk in chunks:
        for name, value in json.loads(chunk).items():
            if isinstance(value, list):
                whole.setdefault(name, []).extend(value)
            else:
                assert name not in whole
                whole[name] = value
    return whole


def test_a_small_snapshot_is_one_piece() -> None:
    assert snapshot_chunks({"rows": [1, 2], "title": "x"}) == [b'{"title":"x","rows":[1,2]}']


def test_an_empty_snapshot_is_one_piece() -> None:
    assert snapshot_chunks({}) == [b"{}"]
    assert snapshot_chunks({"rows": []}) == [b'{"rows":[]}']


def test_values_and_all_names_stand_in_the_first_piece() -> None:
    chunks = snapshot_chunks({"rows": ["x" * 1_000] * 100, "tags": ["y"], "title": "t"})
    assert len(chunks) > 1
    first = json.loads(chunks[0])
    assert first["title"] == "t"
    assert set(first) == {"rows", "tags", "title"}
    assert all("title" not in json.loads(chunk) for chunk in chunks[1:])


def test_a_list_goes_on_in_the_next_piece_before_another_begins() -> None:
    snapshot = {"a": ["x" * 10_000] * 5, "b": ["y" * 10_000] * 5}
    chunks = [json.loads(chunk) for chunk in snapshot_chunks(snapshot)]
    assert [{name: len(items) for name, items in chunk.items()} for chunk in chunks] == [
        {"a": 3, "b": 0},
        {"a": 2, "b": 1},
        {"b": 3},
        {"b": 1},
    ]


def test_an_item_that_is_too_large_is_a_piece_of_its_own() -> None:
    chunks = snapshot_chunks({"rows": [1, "x" * 100_000, 2]})
    assert [len(chunk) > SNAPSHOT_CHUNK for chunk in chunks] == [False, True, False]
    assert joined(chunks) == {"rows": [1, "x" * 100_000, 2]}


def test_a_value_that_is_no_list_is_never_cut() -> None:
    snapshot = {"text": "x" * 100_000, "rows": [1]}
    chunks = snapshot_chunks(snapshot)
    assert joined(chunks) == snapshot
    assert json.loads(chunks[0])["text"] == "x" * 100_000


def test_tuples_are_lists_and_other_values_ask_the_hook() -> None:
    chunks = snapshot_chunks({"rows": ({1j}, 2)}, default=str)
    assert chunks == [b'{"rows":[["1j"],2]}']
    with pytest.raises(TypeError):
        snapshot_chunks({"rows": [object()]})


ITEMS = st.integers(min_value=0, max_value=20_000).map(lambda size: "x" * size)


@given(
    st.dictionaries(st.text(max_size=50), st.lists(ITEMS, max_size=8) | st.integers(), max_size=5)
)
def test_no_piece_is_larger_than_it_may_be_and_nothing_is_lost(snapshot: dict[str, Any]) -> None:
    small = {
        name: value if isinstance(value, list) else value % 2**53
        for name, value in snapshot.items()
        if all(not 0xD800 <= ord(character) <= 0xDFFF for character in name)
    }
    chunks = snapshot_chunks(small)
    assert all(len(chunk) <= SNAPSHOT_CHUNK for chunk in chunks)
    assert joined(chunks) == small
