"""When a server is left alone, and when it is asked again."""

from hypothesis import given
from hypothesis import strategies as st

from service.stores.circuit import FIRST_PAUSE_S, LONGEST_PAUSE_S, Circuit

MOMENTS = st.lists(st.tuples(st.sampled_from(["failed", "succeeded", "probe_failed"]), st.floats(0, 5)), max_size=40)


def pauses(circuit: Circuit, probes: int) -> list[float]:
    """How long it waits before each of some probes that fail."""
    waits, now = [], 0.0
    for _ in range(probes):
        wait = circuit.probe_due_in(now)
        waits.append(wait)
        now += wait
        circuit.probe_failed(now)
    return waits


@given(moments=MOMENTS, limit=st.integers(1, 4))
def test_it_is_open_after_so_many_failures_in_a_row_until_a_success(moments, limit):
    """Told by a model that only counts: whatever happens in whatever order, and there is a probe due while open."""
    circuit, in_a_row, now = Circuit(failures=limit), 0, 0.0
    for what, later in moments:
        now += later
        if what == "succeeded":
            circuit.succeeded()
            in_a_row = 0
        elif what == "failed":
            circuit.failed(now)
            in_a_row += 1
        else:
            circuit.probe_failed(now)

        assert circuit.is_open == (in_a_row >= limit)
        due = circuit.probe_due_in(now)
        assert (due is not None) == circuit.is_open
        assert due is None or 0 <= due <= LONGEST_PAUSE_S


@given(moments=MOMENTS)
def test_without_a_limit_it_never_opens(moments):
    """`failures` 0 turns it off."""
    circuit = Circuit(failures=0)
    for what, now in moments:
        getattr(circuit, what)(*(() if what == "succeeded" else (now,)))

        assert not circuit.is_open


def test_pauses_between_probes_double_up_to_a_bound():
    """A server that stumbled is asked again soon, a dead one seldom."""
    circuit = Circuit(failures=1)
    circuit.failed(0.0)

    assert [FIRST_PAUSE_S * 2**i for i in range(6)] == [round(pause, 6) for pause in pauses(circuit, 6)]
    assert pauses(circuit, 3)[1:] == [LONGEST_PAUSE_S] * 2


def test_pauses_begin_small_again_after_a_success():
    """What a server did long ago is forgotten."""
    circuit = Circuit(failures=1)
    circuit.failed(0.0)
    pauses(circuit, 6)
    circuit.succeeded()
    circuit.failed(100.0)

    assert round(circuit.probe_due_in(100.0), 6) == FIRST_PAUSE_S


def test_a_request_from_before_puts_off_no_probe():
    """Requests that were under way when the circuit opened fail later, and change nothing."""
    circuit = Circuit(failures=1)
    circuit.failed(0.0)
    circuit.failed(FIRST_PAUSE_S / 2)

    assert circuit.probe_due_in(FIRST_PAUSE_S) == 0.0
