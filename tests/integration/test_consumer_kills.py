"""The consumer under SIGKILL, in short; `python -m benchmarks.consumer_kills` is the whole run."""

from benchmarks.consumer_kills import run
from benchmarks.event_flow import Flow


def test_a_consumer_that_is_killed_loses_and_doubles_nothing():
    """5 kills while 10,000 events come, some twice and some out of order: the histories are exactly the expected."""
    figures = run(Flow(events=10_000, users=50, keep=100), kills=5)

    wrong = {name: figures[name] for name in ("wrong_histories", "wrong_behaviors", "dead", "exit_code")}
    assert wrong == {"wrong_histories": 0, "wrong_behaviors": 0, "dead": 0, "exit_code": 0}
    assert figures["kills"] == 5


def test_the_flow_is_as_unruly_as_it_says():
    """Doubles and displaced events are there in their shares, and full histories lose their oldest."""
    flow = Flow(events=4_000, users=10, keep=100)
    bodies = flow.bodies()
    first = {body: place for place, body in reversed(list(enumerate(bodies)))}
    order = sorted(first, key=first.__getitem__)
    numbers = [int(body.rpartition(b'"e')[2].strip(b'"}')) for body in order]
    overtaken = sum(number < max(numbers[:place], default=0) for place, number in enumerate(numbers))

    assert (len(bodies), len(set(bodies))) == (4_000, 3_800)
    assert overtaken > 100
    assert {len(history) for history in flow.histories(bodies).values()} == {100}
