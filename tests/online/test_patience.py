"""The store's time limit on a loop that is on time, and on one that is late."""

import asyncio
import time

import pytest

from service.stores.patience import patience

pytestmark = pytest.mark.anyio


async def test_time_is_limited():
    """What does not answer is given up."""
    with pytest.raises(TimeoutError):
        async with patience(0.02):
            await asyncio.sleep(10)


async def test_what_is_in_time_is_left_alone():
    """Nothing rings after the block."""
    async with patience(0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)


async def test_a_late_loop_is_not_the_store():
    """A reply that came while the loop was busy with something else counts."""
    loop = asyncio.get_running_loop()
    reply = loop.create_future()
    loop.call_later(0.01, time.sleep, 0.1)  # the loop is busy past the limit
    loop.call_later(0.06, reply.set_result, "there")
    async with patience(0.03):
        answer = await reply

    assert answer == "there"


async def test_a_loop_that_is_always_late_does_not_wait_for_ever():
    """After a few times the limit holds whatever the loop does."""
    loop = asyncio.get_running_loop()
    for beat in range(100):
        loop.call_later(beat * 0.01, time.sleep, 0.01)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with patience(0.005):
            await asyncio.sleep(10)

    assert time.monotonic() - began < 5
