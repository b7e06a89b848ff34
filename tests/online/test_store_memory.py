"""What MemoryStore does beyond the contract."""

import pytest

from model.bundle.records import make_behaviors
from service.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


async def test_the_user_idle_for_longest_is_forgotten():
    """The number of users is bounded; an append makes its user the newest."""
    store = MemoryStore(history_keep=5, max_users=2)
    for user in (1, 2, 1, 3):
        await store.append(user, make_behaviors([9]), timeout_s=5)

    assert [len(await store.read(user, limit=5, timeout_s=5)) for user in (1, 2, 3)] == [1, 0, 1]


@pytest.mark.parametrize("bounds", [{"history_keep": 0}, {"history_keep": 1, "max_users": 0}])
async def test_bounds_must_leave_room(bounds):
    """A store that can keep nothing is a mistake, said at once."""
    with pytest.raises(ValueError, match="at least 1"):
        MemoryStore(**bounds)
