"""Ids and leases as numbers and as text, and the two clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbq import ids, limits
from lmdbq.clock import ManualClock, SystemClock

task_ids = st.integers(0, ids.ID_MAX)
deliveries = st.integers(1, ids.DELIVERY_MAX)
instants = st.integers(0, limits.INSTANT_NS_MAX)

# --- ids ---


@given(task_ids)
def test_a_printed_id_reads_back_as_the_same_number(task_id: int):
    text = ids.format_id(task_id)

    assert ids.parse_id(text) == task_id
    assert len(text) == len(ids.TASK_PREFIX) + ids.ID_DIGITS


@given(task_ids, task_ids)
def test_printed_ids_sort_as_their_numbers_do(one: int, other: int):
    assert (ids.format_id(one) < ids.format_id(other)) == (one < other)


@given(st.lists(task_ids, max_size=20), st.integers(0, ids.ID_MAX - 10_000), st.integers(0, 5_000))
def test_many_ids_are_printed_as_each_of_them_is(scattered: list[int], first: int, length: int):
    numbers = [*scattered, *range(first, first + length)]

    assert ids.format_ids(numbers) == [ids.format_id(number).encode() for number in numbers]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tsk_",
        "tsk_0000000000",
        "tsk_000000000000",
        "TSK_00000000000",
        "tsk_0000000000-",
        "tsk_0000000000é",
        " tsk_00000000000",
        "tsk_zzzzzzzzzzz",
        "00000000000tsk_",
    ],
)
def test_anything_else_is_no_id(text: str):
    with pytest.raises(ValueError, match="id"):
        ids.parse_id(text)


@given(st.text(max_size=20))
def test_whatever_text_comes_it_is_an_id_or_a_value_error(text: str):
    try:
        number = ids.parse_id(text)
    except ValueError:
        return
    assert ids.format_id(number) == text


@given(st.lists(instants, min_size=1, max_size=50))
def test_ids_rise_whatever_the_clock_does(walls: list[int]):
    given_ids = [0]
    for wall in walls:
        given_ids.append(ids.next_id(given_ids[-1], wall))

    assert given_ids == sorted(set(given_ids))
    assert given_ids[-1] <= ids.ID_MAX


@given(instants)
def test_a_first_id_tells_its_millisecond(wall: int):
    assert ids.next_id(0, wall) >> ids.ID_COUNTER_BITS == wall // limits.MS_NS


# --- leases ---


@given(task_ids, deliveries)
def test_a_printed_lease_reads_back_as_the_same_delivery(task_id: int, delivery: int):
    assert ids.parse_lease(ids.format_lease(task_id, delivery)) == (task_id, delivery)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tsk_00000000001",
        "tsk_00000000001.",
        "tsk_00000000001.0",
        "tsk_00000000001.01",
        "tsk_00000000001.-1",
        "tsk_00000000001.+1",
        "tsk_00000000001.1.1",
        "tsk_00000000001.1 ",
        "tsk_00000000001.٣",
        "tsk_00000000001.²",
        "tsk_00000000001.4294967296",
        "tsk_00000000001.99999999999",
        "tsk_0000000001.1",
    ],
)
def test_anything_else_is_no_lease(text: str):
    with pytest.raises(ValueError, match=r"lease|id"):
        ids.parse_lease(text)


@given(st.text(max_size=30))
def test_whatever_text_comes_it_is_a_lease_or_a_value_error(text: str):
    try:
        task_id, delivery = ids.parse_lease(text)
    except ValueError:
        return
    assert ids.format_lease(task_id, delivery) == text


# --- clocks ---


def test_the_systems_clock_tells_whole_microseconds_and_one_boot():
    clock = SystemClock()

    assert clock.wall_ns() % limits.US_NS == 0
    assert clock.wall_ns() > limits.INSTANT_NS_MIN
    assert clock.steady_ns() <= clock.steady_ns()
    assert clock.boot_id() == SystemClock().boot_id() != ""


def test_a_manual_clock_moves_only_when_it_is_told_to():
    clock = ManualClock()
    wall, steady = clock.wall_ns(), clock.steady_ns()

    assert (clock.wall_ns(), clock.steady_ns()) == (wall, steady)
    clock.advance(1.5)
    assert (clock.wall_ns() - wall, clock.steady_ns() - steady) == (1_500_000_000, 1_500_000_000)


def test_a_step_moves_the_wall_and_not_the_steady_time():
    clock = ManualClock()
    wall, steady = clock.wall_ns(), clock.steady_ns()

    clock.step(-3600)

    assert (clock.wall_ns() - wall, clock.steady_ns()) == (-3600 * limits.SECOND_NS, steady)


def test_a_reboot_has_a_new_name_and_begins_its_steady_time_anew():
    clock = ManualClock()
    wall, steady, boot_id = clock.wall_ns(), clock.steady_ns(), clock.boot_id()

    clock.reboot()

    assert clock.boot_id() != boot_id
    assert clock.steady_ns() < steady
    assert clock.wall_ns() == wall


@given(st.floats(0, 1e6))
def test_a_manual_clock_stays_on_whole_microseconds(seconds: float):
    clock = ManualClock()

    clock.advance(seconds)
    clock.step(-seconds)

    assert clock.wall_ns() % limits.US_NS == clock.steady_ns() % limits.US_NS == 0


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1)), max_size=5), st.text(max_size=20))
def test_leases_are_read_together_as_they_are_one_by_one(pairs: list[tuple[int, int]], noise: str):
    texts = [ids.format_lease(*pair) for pair in pairs]
    assert ids.parse_leases(texts) == [ids.parse_lease(text) for text in texts] == pairs
    try:
        one = [ids.parse_lease(noise)]
    except ValueError:
        one = None
    assert ids.parse_leases([noise]) == one


@pytest.mark.parametrize("text", ["tsk_zzzzzzzzzzz.1", "tsk_00000000000.0", "tsk_00000000000", "tsk_0000000000ü.1", ""])
def test_what_is_no_lease_is_none_together_either(text: str):
    assert ids.parse_leases([text]) is None
