"""The tutorial baseline: `uvicorn --factory benchmarks.baseline.app:create_app`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from redis.asyncio import Redis

from benchmarks.baseline.ranker import Ranker, history_command


class Candidate(BaseModel):
    """One item to be scored."""

    item_id: int
    cate_id: int


class ScoreRequest(BaseModel):
    """A user and the items to be scored for them."""

    user_id: int
    candidates: list[Candidate]


class ScoreResponse(BaseModel):
    """pCTR in the request's order."""

    scores: list[float]


def create_app() -> FastAPI:
    """The app; the net and Redis come from the environment, as uvicorn starts its workers with nothing else."""
    ranker = Ranker.from_environ(os.environ)
    redis = Redis.from_url(os.environ["BENCH_REDIS"])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await redis.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/score")
    async def score(request: ScoreRequest) -> ScoreResponse:
        members = await redis.execute_command(*history_command(request.user_id))
        columns = {
            "item_id": [c.item_id for c in request.candidates],
            "cate_id": [c.cate_id for c in request.candidates],
        }
        # In a thread: the event loop reads the next request while this one computes.
        return ScoreResponse(scores=await run_in_threadpool(ranker.scores, request.user_id, members, columns))

    return app
