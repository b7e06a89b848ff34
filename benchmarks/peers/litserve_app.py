"""LitServe, two workers of one thread each: `python -m benchmarks.peers.litserve_app PORT`."""

import sys
from typing import Any

import litserve

from benchmarks.peers.request import Job


class Ranking(litserve.LitAPI):
    """JSON in and out is LitServe's default."""

    def setup(self, device: str) -> None:
        """Once per worker."""
        self._job = Job()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:  # Any: parsed JSON
        """Nothing to decode."""
        return request

    def predict(self, request: dict[str, Any]) -> dict[str, list[float]]:  # Any: parsed JSON
        """Score one request."""
        return self._job.answer(request)

    def encode_response(self, output: dict[str, list[float]]) -> dict[str, list[float]]:
        """Nothing to encode."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Ranking(api_path="/score"), accelerator="cpu", workers_per_device=2, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
