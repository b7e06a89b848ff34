"""The settings of scoring: what a request may ask, how long it may wait, and what computes it.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class ScoringSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    deadline_ms: float = Field(200, gt=0, le=60_000, description="Deadline of a request without X-Deadline-Ms.")
    max_deadline_ms: float = Field(10_000, gt=0, le=60_000, description="A longer X-Deadline-Ms counts as this.")
    slo_s: float = Field(0.03, gt=0, lt=10, description="The latency promised, in seconds: an edge of the histograms.")
    max_candidates: int = Field(2000, ge=1, le=100_000, description="Candidates per request; more are refused (413).")
    explain_candidates: int = Field(
        50, ge=0, le=100_000, description="Candidates explained in one request; 0: none, and no graph for it is loaded."
    )
    allow_prior: bool = Field(
        False,
        description="Answer from the items' click rates in training, `degraded: prior`, instead of a 429 or a 504.",
    )
    queue_rows: int = Field(
        10_000, ge=1, description="Candidate rows scored or waiting at once; requests beyond are refused (429)."
    )
    queue_ms: float = Field(
        30,
        gt=0,
        le=60_000,
        description="Longest expected wait for a compute thread; requests beyond are refused (429).",
    )
    workers: int = Field(
        1, ge=1, le=256, description="Serving processes behind the one port; most services need one (ADR 6)."
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Compute threads of each process, of one core each; 0: the processes share the CPUs that the "
        "container may use.",
    )
    runtime: Literal["auto", "onnx", "native"] = Field(
        "auto",
        description="What computes candidates: `native` is the compiled kernel, refused where it is not built; `auto` "
        "takes it where it can.",
    )
    device: str = Field(
        "cpu",
        pattern="^(cpu|cuda(:[0-9]{1,2})?)$",
        description="Where nets are computed: cpu, cuda or cuda:N; a GPU that is not there refuses every bundle.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the attention in the native kernel: `bfloat16` needs a processor with AMX and moves scores a "
        "little.",
    )
    compute_nice: int = Field(
        5, ge=0, le=19, description="How far compute threads stand back behind the one that reads and answers (Linux)."
    )
    state_cache_mb: int = Field(
        64,
        ge=0,
        le=65_536,
        description="Memory for states of the user half, kept for users who come back unchanged; 0: none.",
    )
