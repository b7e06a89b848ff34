"""mosec, two worker processes of one thread each: `python -m benchmarks.peers.mosec_app --port N`."""

from typing import Any

from mosec import Server, Worker

from benchmarks.peers.request import Job


class Ranking(Worker):
    """JSON in and out is mosec's default."""

    def __init__(self) -> None:
        super().__init__()
        self._job = Job()

    def forward(self, data: dict[str, Any]) -> dict[str, list[float]]:  # Any: parsed JSON
        """Score one request."""
        return self._job.answer(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Ranking, num=2, route="/score", timeout=30)
    server.run()
