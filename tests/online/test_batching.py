"""The queue by itself: who is admitted, what runs next, in which pieces, joined with whom."""

import math

import pytest

from service.errors import Overloaded
from service.runtimes.base import BatchLimits
from service.scoring.batching import Batch, BatchQueue, Job
from service.scoring.pace import USER_ROWS

FAR = 1e12
JOINING = BatchLimits(users=4, joined=100)


def queue_of(threads: int = 2, *, budget_rows: int = 10_000, **options: float) -> BatchQueue:
    """An empty queue."""
    return BatchQueue(threads=threads, budget_rows=budget_rows, **options)


def line_up(queue: BatchQueue, rows: int, *, deadline: float = FAR, **needs: object) -> Job:
    """Admit a job and put it; `needs` are what a request says of itself."""
    job = queue.admit(rows, deadline=deadline, now=0.0)
    for name, value in needs.items():
        setattr(job, name, value)
    queue.put(job)
    return job


def take(queue: BatchQueue, now: float = 0.0) -> Batch:
    """The next batch; there must be one."""
    batch, _ = queue.next(now)
    assert batch is not None
    return batch


def spans(batch: Batch) -> list[tuple[int, int]]:
    """Where its pieces begin and end."""
    return [(piece.start, piece.stop) for piece in batch.pieces]


def jobs(batch: Batch) -> list[Job]:
    """Whose candidates they are."""
    return [piece.job for piece in batch.pieces]


def drain(queue: BatchQueue) -> list[tuple[int, int]]:
    """Every piece that is left, one batch at a time."""
    found = []
    while (batch := queue.next(0.0)[0]) is not None:
        found += spans(batch)
        queue.finished(batch, seconds=0.0)
    return found


# Order


def test_the_oldest_request_goes_first():
    """Requests run in the order in which they were put, whatever their size."""
    queue = queue_of(1)
    lined = [line_up(queue, rows) for rows in (30, 10, 20)]

    found = []
    for _ in lined:
        batch = take(queue)
        found += jobs(batch)
        queue.finished(batch, seconds=0.0)

    assert found == lined
    assert queue.empty


def test_the_oldest_request_is_finished_before_a_younger_one_begins():
    """What is left of a request comes before anything younger, as soon as its user half is done."""
    queue = queue_of(2)
    old = line_up(queue, 200)
    young = line_up(queue, 10)
    first = take(queue)
    meanwhile = take(queue)
    queue.encode_done(old)

    assert (jobs(first), first.encode) == ([old], True)
    assert (jobs(meanwhile), meanwhile.encode) == ([young], True)
    assert (jobs(take(queue)), queue.empty) == ([old], True)


def test_nothing_of_a_request_is_handed_out_while_its_user_half_runs():
    """Without the state there is nothing to score with."""
    queue = queue_of(2)
    job = line_up(queue, 200)
    take(queue)

    assert queue.next(0.0) == (None, [])
    assert queue.encode_done(job)
    assert not take(queue).encode


def test_a_request_whose_state_is_known_has_no_user_half():
    """Its pieces go to every free thread at once."""
    queue = queue_of(2)
    line_up(queue, 200, encoded=True)
    both = take(queue), take(queue)

    assert [batch.encode for batch in both] == [False, False]
    assert [spans(batch) for batch in both] == [[(0, 100)], [(100, 200)]]


def test_a_request_that_is_whole_in_one_piece_leaves_nothing_after_its_user_half():
    """`encode_done` says whether other threads have anything to do."""
    queue = queue_of(2)
    job = line_up(queue, 10)
    take(queue)

    assert not queue.encode_done(job)


# Pieces


@pytest.mark.parametrize(
    ("threads", "rows", "expected"),
    [
        (1, 100, [(0, 100)]),
        (2, 200, [(0, 100), (100, 200)]),
        (4, 200, [(0, 50), (50, 100), (100, 150), (150, 200)]),
        (4, 100, [(0, 50), (50, 100)]),  # two pieces of at least 48, not four of 25
        (2, 47, [(0, 47)]),  # less than one piece is one piece
        (1, 300, [(0, 100), (100, 200), (200, 300)]),  # three of 100 rather than 128, 128 and 44
    ],
)
def test_a_request_is_cut_evenly_over_the_free_threads(threads, rows, expected):
    """As many pieces as threads are free, none smaller than is worth a thread, none larger than one call takes."""
    queue = queue_of(threads)
    line_up(queue, rows, encoded=True, limits=BatchLimits(smallest=48, largest=128))

    found = []
    while (batch := queue.next(0.0)[0]) is not None:
        found += spans(batch)
        if threads == 1:
            queue.finished(batch, seconds=0.0)

    assert found == expected


def test_threads_that_are_busy_do_not_count():
    """With one of two threads at work the other takes all that one call allows."""
    queue = queue_of(2)
    line_up(queue, 10)
    take(queue)
    line_up(queue, 100, encoded=True)

    assert spans(take(queue)) == [(0, 100)]


@pytest.mark.parametrize(("length", "largest"), [(10, 100), (50, 20), (5000, 1), (0, 128)])
def test_a_long_history_makes_pieces_smaller(length, largest):
    """Rows times history length stay within `pairs`; one row always runs."""
    queue = queue_of(1)
    line_up(queue, 128, encoded=True, length=length, limits=BatchLimits(largest=128, pairs=1000))

    found = drain(queue)

    assert max(stop - start for start, stop in found) <= largest
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == 128


# Joins


def test_requests_are_joined_when_more_wait_than_threads_are_free():
    """Four small ones and one free thread: one call for all, their user half included."""
    queue = queue_of(1)
    lined = [line_up(queue, 10, limits=JOINING) for _ in range(4)]
    batch = take(queue)

    assert (jobs(batch), spans(batch)) == (lined, [(0, 10)] * 4)
    assert (batch.encode, batch.rows, queue.empty) == (True, 40, True)


def test_requests_are_not_joined_while_threads_are_free():
    """Four requests on four free threads run side by side; on two threads two by two."""
    for threads, expected in ((4, [1, 1, 1, 1]), (2, [2, 2])):
        queue = queue_of(threads)
        for _ in range(4):
            line_up(queue, 10, limits=JOINING)

        assert [len(take(queue).pieces) for _ in expected] == expected


def test_only_requests_of_one_kind_are_joined():
    """Those of another runtime wait for their own turn."""
    queue = queue_of(1)
    a, b, again = (line_up(queue, 10, limits=JOINING, kind=kind) for kind in ("a", "b", "a"))

    assert jobs(take(queue)) == [a, again]
    assert jobs(take(queue)) == [b]


@pytest.mark.parametrize(
    ("limits", "sizes", "length", "expected"),
    [
        (BatchLimits(users=1), (10, 10, 10), 0, [0]),
        (BatchLimits(users=2, joined=100), (10, 10, 10), 0, [0, 1]),
        (BatchLimits(users=9, joined=30), (10, 10, 10), 0, [0, 1, 2]),
        (BatchLimits(users=9, joined=29), (10, 10, 10), 0, [0, 1]),
        (BatchLimits(users=9, joined=27), (8, 10, 8), 0, [0, 1]),  # padding counts: three of 10
        (BatchLimits(users=9, joined=100), (5, 20, 5), 0, [0, 2]),  # 20 would be mostly padding
        (BatchLimits(users=9, joined=100, pairs=1000), (10, 10, 10), 50, [0, 1]),  # 2 x 10 x 50
    ],
)
def test_joins_stay_within_the_limits_of_the_runtime(limits, sizes, length, expected):
    """So many requests, rows and pairs, counted with padding, and little padding; one that does not fit waits."""
    queue = queue_of(1)
    lined = [line_up(queue, rows, limits=limits, length=length) for rows in sizes]

    assert jobs(take(queue)) == [lined[number] for number in expected]


def test_short_and_long_histories_are_not_joined():
    """Padding one to the other costs more than the call it saves."""
    queue = queue_of(1)
    long, short, again = (line_up(queue, 10, limits=JOINING, length=length) for length in (100, 20, 90))

    assert jobs(take(queue)) == [long, again]
    assert jobs(take(queue)) == [short]


def test_a_request_with_a_known_state_is_not_joined():
    """Joined requests share a user half, which this one does not need."""
    queue = queue_of(1)
    fresh = line_up(queue, 10, limits=JOINING)
    known = line_up(queue, 10, limits=JOINING, encoded=True)

    assert jobs(take(queue)) == [fresh]
    assert jobs(take(queue)) == [known]


def test_a_joined_batch_that_failed_runs_again_one_by_one():
    """Its requests come first, each alone, so that only the one at fault fails; one that was closed does not."""
    queue = queue_of(1)
    a, b, gone = lined = [line_up(queue, 10, limits=JOINING) for _ in range(3)]
    batch = take(queue)
    younger = line_up(queue, 10, limits=JOINING)
    queue.close(gone)
    queue.again(batch)
    rows = queue.rows
    alone = [jobs(take(queue)) for _ in range(3)]

    assert jobs(batch) == lined
    assert alone == [[a], [b], [younger]]
    assert rows == 30


# Ends


def test_expired_requests_are_found_and_never_handed_out():
    """At its deadline a request is late; its rows are free at once."""
    queue = queue_of(1)
    late = line_up(queue, 10, deadline=5.0)
    good = line_up(queue, 10, deadline=5.1)
    batch, expired = queue.next(5.0)

    assert batch is not None
    assert (jobs(batch), expired, late.closed, queue.rows) == ([good], [late], True, 10)


def test_a_request_is_complete_with_its_last_piece():
    """Pieces may end in any order; `finished` names the request once, with the last of them."""
    queue = queue_of(2)
    job = line_up(queue, 200, encoded=True)
    first, second = take(queue), take(queue)

    assert queue.finished(second, seconds=0.1) == []
    assert queue.rows == 100
    assert queue.finished(first, seconds=0.1) == [job]
    assert (queue.rows, queue.close(job)) == (0, False)


def test_closing_a_request_that_waits_frees_its_rows():
    """Nothing of it is handed out; a second close says that it was closed before."""
    queue = queue_of(1)
    job = line_up(queue, 10)

    assert (queue.close(job), queue.rows) == (True, 0)
    assert queue.next(0.0) == (None, [])
    assert not queue.close(job)


def test_closing_a_request_that_runs_frees_its_rows_when_they_are_done():
    """What waits is free at once, what runs when its thread is done; then it is not complete."""
    queue = queue_of(2)
    job = line_up(queue, 200, encoded=True)
    batch = take(queue)
    queue.close(job)
    held = queue.rows

    assert queue.next(0.0) == (None, [])
    assert held == 100
    assert queue.finished(batch, seconds=0.1) == []
    assert queue.rows == 0


def test_closing_before_the_inputs_are_there_forgets_the_request():
    """A caller who goes while the store is asked leaves nothing, even if `put` comes later."""
    queue = queue_of(1)
    job = queue.admit(10, deadline=FAR, now=0.0)
    queue.close(job)
    queue.put(job)

    assert (queue.rows, queue.empty) == (0, True)


def test_a_failed_piece_fails_its_request_once():
    """The rest is not handed out; another piece that fails later finds the request closed."""
    queue = queue_of(2)
    job = line_up(queue, 300, encoded=True)
    first, second = take(queue), take(queue)

    assert queue.failed(first) == [job]
    assert queue.failed(second) == []
    assert (queue.rows, queue.empty) == (0, True)


def test_closing_all_names_everybody_who_waits():
    """Requests that run or are not put yet are not among them."""
    queue = queue_of(1)
    line_up(queue, 10)
    take(queue)
    admitted = queue.admit(10, deadline=FAR, now=0.0)
    waiting = [line_up(queue, 10), line_up(queue, 10)]

    assert queue.close_all() == waiting
    assert (queue.rows, admitted.closed) == (20, False)


# The door


def test_the_budget_is_a_limit_on_rows():
    """A request that does not fit is refused and leaves no trace; one that just fits is admitted."""
    queue = queue_of(budget_rows=100)
    line_up(queue, 60)
    with pytest.raises(Overloaded, match="60 of 100 candidate rows are taken, this request has 41"):
        queue.admit(41, deadline=FAR, now=0.0)
    queue.admit(40, deadline=FAR, now=0.0)

    assert repr(queue) == "BatchQueue(rows=100/100, waiting=1, running=0)"


def learned(row_s: float, **options: float) -> BatchQueue:
    """A queue for one thread that knows what a row costs and is idle."""
    queue = queue_of(1, **options)
    queue.pace.learn(1000 * row_s, rows=1000, users=0)
    return queue


def test_the_cost_of_a_row_is_learned_from_what_ran():
    """Seconds over rows, a user half counted as the rows that it costs as much as."""
    queue = queue_of(1)
    line_up(queue, 975, limits=BatchLimits(largest=1000))
    queue.finished(take(queue), seconds=10.0)

    assert queue.pace.row_s == pytest.approx(10.0 / (975 + USER_ROWS))


def test_the_wait_is_the_rows_before_by_their_cost_and_the_threads():
    """A second of rows on two threads is half a second; a user half that is not done is rows too."""
    queue = queue_of(2)
    queue.pace.row_s = 0.01
    job = line_up(queue, 100 - USER_ROWS)
    first = queue.wait_s()
    queue.close(job)

    assert (first, queue.wait_s()) == (pytest.approx(0.5), 0)


def test_a_wait_that_is_too_long_is_refused():
    """Above `max_wait_s` the door is closed, and Retry-After is the wait in whole seconds."""
    queue = learned(0.01, max_wait_s=2.0)
    line_up(queue, 200 - USER_ROWS)
    queue.admit(10, deadline=FAR, now=0.0)
    with pytest.raises(Overloaded, match="the wait would be 2350 ms, allowed: 2000 ms") as caught:
        queue.admit(10, deadline=FAR, now=0.0)

    assert caught.value.retry_after_s == 3


def test_a_deadline_that_cannot_be_kept_is_refused():
    """The wait and the request's own rows must fit into what is left."""
    queue = learned(0.01)
    line_up(queue, 100 - USER_ROWS)
    with pytest.raises(Overloaded, match="the wait of 1000 ms leaves too little of the deadline") as caught:
        queue.admit(50 - USER_ROWS, deadline=11.4, now=10.0)
    queue.admit(50 - USER_ROWS, deadline=11.6, now=10.0)

    assert caught.value.retry_after_s == 1


def test_an_idle_queue_admits_whatever_the_budget_allows():
    """A wrong estimate cannot lock everybody out: the next batch corrects it."""
    queue = learned(1e6, max_wait_s=0.001)

    assert queue.admit(100, deadline=1.0, now=0.0).rows == 100


def test_nothing_is_known_at_the_start():
    """Before the first batch there is no estimate, so there is no wait to refuse for."""
    queue = queue_of(1, max_wait_s=0.0)
    line_up(queue, 100)

    assert queue.admit(100, deadline=0.0, now=0.0).rows == 100
    assert math.isclose(queue.wait_s(), 0.0)
