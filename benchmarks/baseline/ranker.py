"""The job itself, shared by the tutorial baseline and the peers: the user's row repeated per candidate, one graph.

Peers are spared the vocabulary: raw id i is row i + 1 of its embedding table. Their graph has no unknown ids to map.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

HISTORY = 100
RECORD = np.dtype([("event", ">u8"), ("item", "<i8"), ("category", "<i8"), ("time", "<i8"), ("action", "u1")])


def history_command(user_id: int) -> tuple[str | int, ...]:
    """The Redis command that returns the user's newest behaviors, newest first."""
    return ("ZRANGE", f"ctr:h:{user_id}", 0, HISTORY - 1, "REV")


class Ranker:
    """The naive graph in one ONNX Runtime session."""

    def __init__(self, net: str, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(net, options, providers=["CPUExecutionProvider"])

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """The net BENCH_NET with BENCH_THREADS threads: every server hands its environment to its workers."""
        return cls(environ["BENCH_NET"], threads=int(environ.get("BENCH_THREADS", "1")))

    def scores(self, user_id: int, members: Sequence[bytes], candidates: Mapping[str, Sequence[int]]) -> list[float]:
        """pCTR per candidate. `members` are Redis's records, newest first; `candidates` has item_id and cate_id."""
        count = len(candidates["item_id"])
        newest_first = np.frombuffer(b"".join(members), dtype=RECORD)
        behaviors = newest_first[::-1]
        history = np.zeros((1, HISTORY, 2), dtype=np.int64)
        history[0, : len(behaviors), 0] = behaviors["item"] + 1
        history[0, : len(behaviors), 1] = behaviors["category"] + 1
        feeds = {
            "user_sparse": np.full((count, 1), user_id + 1, dtype=np.int64),
            "history": np.repeat(history, count, axis=0),
            "history_len": np.full(count, len(behaviors), dtype=np.int64),
            "item_sparse": np.array([candidates["item_id"], candidates["cate_id"]], dtype=np.int64).T + 1,
        }
        pctr: NDArray[np.float32] = self._session.run(["pctr"], feeds)[0]
        scores: list[float] = pctr.tolist()
        return scores
