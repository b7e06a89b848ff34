"""`ctr-model train-on-ray`: preparation on Ray Data and training on Ray Train, from the file that `train` takes.

In a cluster the command is the entry point of a Ray job and finds the cluster it is in; elsewhere it starts one here.
The run's folder has to be one that every node sees.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from model.bundle.errors import ConfigError
from model.config import RunConfig, read_config
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import read_stream
from model.data.reading import Reading
from model.ray_prepare import encode_on_ray
from model.terminal import clear_errors, console
from model.train_command import train_configured

SHARDS = "shards"  # below the run's folder


def train_on_ray(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run to write; every node sees it.")],
    workers: Annotated[int, typer.Option(help="Processes that divide every batch.", min=1)] = 2,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder, if there is one.")] = False,
) -> None:
    """Prepare the log on Ray Data, unless it is in shards already, and train on Ray Train."""
    with clear_errors():
        settings, out = read_config(config), out.resolve()
        settings = dataclasses.replace(settings, base=settings.base.resolve())
        _check_installed()
        if settings.data.format != "shards":
            settings = prepared(settings, out / SHARDS)
        train_workers(settings, out, workers=workers, resume=resume)


def prepared(settings: RunConfig, folder: Path) -> RunConfig:
    """The same run on shards in `folder`, which Ray Data writes. Raises ConfigError as `prepare --shards`."""
    import ray  # noqa: PLC0415  # the extra `ray`

    ray.init(ignore_reinit_error=True)
    data, schema = settings.data, settings.schema
    plan = Plan(
        valid_fraction=data.valid_fraction,
        test_fraction=data.test_fraction,
        memory_mb=data.memory_mb,
        encode=encode_on_ray,
    )
    stream = read_stream(data, schema, base=settings.base, reading=Reading(max_malformed=data.max_malformed))
    splits = prepare_shards(stream, schema, plan=plan, out=folder)
    console.print(f"prepared {sum(split['rows'] for split in splits.values()):,} rows on Ray Data", soft_wrap=True)
    return dataclasses.replace(settings, data=dataclasses.replace(data, format="shards", path=folder))


def train_workers(settings: RunConfig, out: Path, *, workers: int, resume: bool) -> None:
    """Train by so many workers of Ray Train; the first one writes the run. A lost worker ends it with Ray's error."""
    from ray.train import RunConfig as RayRun  # noqa: PLC0415  # the extra `ray`
    from ray.train import ScalingConfig  # noqa: PLC0415
    from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415

    gpu = settings.train.device == "cuda"

    def work() -> None:
        train_configured(settings, out=out, resume=resume)

    TorchTrainer(
        work,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
        run_config=RayRun(name=out.name, storage_path=str(out / "ray")),
    ).fit()
    console.print(f"trained by {workers} workers of Ray Train; wrote {out}", soft_wrap=True)


def _check_installed() -> None:
    try:
        import ray.train  # noqa: F401, PLC0415  # the extra `ray`
    except ImportError as error:
        allowed = "an install of ctr-scorer[ray,train]"
        raise ConfigError(file="train-on-ray", key="ray", found=str(error), allowed=allowed) from error
