"""What the synchronous peers do with one parsed request."""

import os
from collections.abc import Mapping
from typing import Any

from redis import Redis

from benchmarks.baseline.ranker import Ranker, history_command


class Job:
    """One worker's session and Redis connection."""

    def __init__(self) -> None:
        self._ranker = Ranker.from_environ(os.environ)
        self._redis = Redis.from_url(os.environ["BENCH_REDIS"])

    def answer(self, request: Mapping[str, Any]) -> dict[str, list[float]]:  # Any: parsed JSON
        """The scores of a request's candidates."""
        user_id, candidates = request["user_id"], request["candidates"]
        columns = {name: [candidate[name] for candidate in candidates] for name in ("item_id", "cate_id")}
        return {"scores": self._ranker.scores(user_id, self._redis.execute_command(*history_command(user_id)), columns)}
