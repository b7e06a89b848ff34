"""BentoML, two workers of one thread each: `bentoml serve benchmarks.peers.bento_app:Ranking --port N`."""

import bentoml

from benchmarks.peers.request import Job


@bentoml.service(workers=2, traffic={"timeout": 60}, metrics={"enabled": True})
class Ranking:
    """One synchronous route."""

    def __init__(self) -> None:
        self._job = Job()

    @bentoml.api(route="/score")
    def score(self, user_id: int, candidates: list[dict[str, int]]) -> dict[str, list[float]]:
        """Score one request."""
        return self._job.answer({"user_id": user_id, "candidates": candidates})
