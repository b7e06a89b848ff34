"""Ray Serve, two replicas of one thread each: `python -m benchmarks.peers.ray_app PORT`."""

import os
import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.request import Job


@serve.deployment(num_replicas=2, max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Ranking:
    """One route; Ray's proxy speaks HTTP."""

    def __init__(self) -> None:
        self._job = Job()

    async def __call__(self, request: Request) -> dict[str, Any]:  # Any: what Ray renders as JSON
        """Score one request."""
        return self._job.answer(await request.json())


if __name__ == "__main__":
    names = ("BENCH_NET", "BENCH_REDIS", "BENCH_THREADS", "PYTHONPATH")
    environ = {name: os.environ[name] for name in names if name in os.environ}
    ray.init(num_cpus=4, include_dashboard=False, configure_logging=False, runtime_env={"env_vars": environ})
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Ranking.bind(), route_prefix="/score")
    signal.pause()
