"""`ctr-model`: from a log to a bundle."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.bundle.pointers import STABLE, write_pointer
from model.code_version import code_version
from model.compare import common_split, compare, read_compared
from model.config import RunConfig, read_config
from model.explain_command import explain
from model.guard_command import guard
from model.log_facts import AnyLog
from model.pipeline import evaluated
from model.predictions import scored_splits
from model.prepare_command import prepare, read_any
from model.publish import Format, publish
from model.ray_command import train_on_ray
from model.replay import replay
from model.report.figures import Scores
from model.report.page import REPORT_HTML, REPORT_JSON, render
from model.retrain_command import retrain
from model.run_folder import load_run, read_report, save_figures
from model.signing import read_signing_key, sign
from model.tables import comparison_tables, figures_table, skew_table
from model.terminal import clear_errors, console, errors
from model.tracking import tell_bundle
from model.train_command import train
from model.tune_command import tune

app = typer.Typer(
    help="From a log to a bundle, and day after day to the next one.",
    no_args_is_help=True,
)

ConfigPath = Annotated[Path, typer.Argument(help="The run's TOML file.")]
Split = Literal["train", "valid", "test"]
RunPath = Annotated[Path, typer.Argument(help="A run written by `train`.")]


app.command()(prepare)
app.command()(train)
app.command()(train_on_ray)


@app.command()
def evaluate(
    run: RunPath,
    config: Annotated[Path, typer.Option(help="The TOML file that names the log.")],
    split: Annotated[Split, typer.Option(help="Which part of the log.")] = "test",
    base: Annotated[Path | None, typer.Option(help="A run of the net `base` on the same log, for RelaImpr.")] = None,
) -> None:
    """Score a whole split with the trained net and add its figures to the run and its report."""
    with clear_errors():
        trained = load_run(run)
        log = _read(read_config(config))
        compared = _base_scores(base, log, split) if base else None
        trained = evaluated(trained, log, split=split, base=compared)
        save_figures(run, trained)
    console.print(figures_table(trained, log.bayes_auc))
    console.print(f"wrote {run / REPORT_HTML}", soft_wrap=True)


@app.command("report")
def write_report(run: RunPath) -> None:
    """Write `report.html` once more from the run's `report.json`, as this release shows it."""
    with clear_errors():
        figures = read_report(run)
        if not figures:
            allowed = "a run with a report; `ctr-model train` writes one"
            raise ConfigError(file=str(run / REPORT_JSON), key="(file)", found="nothing", allowed=allowed)
        (run / REPORT_HTML).write_text(render(figures), encoding="utf-8")
    console.print(f"wrote {run / REPORT_HTML}", soft_wrap=True)


@app.command("compare")
def compare_runs(
    runs: Annotated[list[Path], typer.Argument(help="Runs; the others are compared with the first.")],
    split: Annotated[Split | None, typer.Option(help="Default: test where all runs have it, else valid.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Print runs side by side: figures with intervals, differences to the first run, settings that differ."""
    with clear_errors():
        chosen = split or common_split(runs)
        comparison = compare([read_compared(run, chosen) for run in runs], chosen)
    if as_json:
        typer.echo(json.dumps(comparison, indent=1, sort_keys=True))
        return
    for table in comparison_tables(comparison):
        console.print(table)
    if any("difference" not in run for run in comparison["runs"][1:]):
        console.print("no differences where a run scored other rows than the first one", soft_wrap=True)


@app.command()
def export(  # noqa: PLR0913  # one parameter per flag
    run: RunPath,
    *,
    out: Annotated[Path, typer.Option(help="Folder of the bundle's versions, such as bundles/din.")],
    stable: Annotated[bool, typer.Option(help="Point `stable` at the new version.")] = True,
    bundle_version: Annotated[str | None, typer.Option("--version", help="Default: the time in UTC.")] = None,
    export_format: Annotated[Format, typer.Option("--format", help="What executes the net when it serves.")] = "onnx",
    sign_key: Annotated[Path | None, typer.Option(help="Ed25519 private key in PEM that signs the bundle.")] = None,
) -> None:
    """Export a run as a bundle, if and only if the exported graphs give the eager net's scores."""
    now = datetime.now(UTC)
    stamp = bundle_version or now.strftime("%Y%m%d-%H%M%S")
    with clear_errors():
        key = read_signing_key(sign_key) if sign_key else None
        trained, code = load_run(run), code_version()
        path = publish(
            trained,
            out,
            version=stamp,
            code_version=code,
            export_format=export_format,
            created=int(now.timestamp()),
            sign=key,
        )
        if stable:
            write_pointer(out, STABLE, stamp)
        tell_bundle(run, path)
    console.print(f"parity gate passed; wrote {path}" + (" (stable)" if stable else ""), soft_wrap=True)


@app.command("replay")
def replay_log(
    log: Annotated[Path, typer.Argument(help="Folder of the service's feature log, or one of its files.")],
    bundle: Annotated[Path, typer.Option(help="A bundle, or a folder with a `stable` pointer.")],
    *,
    threshold: Annotated[float, typer.Option(help="Exit code 1 if any pCTR differs by more than this.")] = 1e-5,
    every_bundle: Annotated[bool, typer.Option(help="Score what other bundles have scored, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Score what the service has logged once more, offline, and report the skew between training and serving."""
    with clear_errors():
        skew = replay(log, read_bundle(bundle), every_bundle=every_bundle)
    if as_json:
        typer.echo(json.dumps(asdict(skew)))
    else:
        console.print(skew_table(skew))
    if skew.max > threshold:
        errors.print(f"skew: pCTR differs by up to {skew.max:.3g}, allowed: {threshold:g}", style="red")
        raise typer.Exit(1)


app.command()(explain)
app.command()(guard)
app.command()(retrain)
app.command()(tune)
app.command()(sign)


@app.command()
def inspect(bundle: Annotated[Path, typer.Argument(help="A bundle, or a folder with a `stable` pointer.")]) -> None:
    """Verify a bundle's checksums and print what it says about itself."""
    with clear_errors():
        read = read_bundle(bundle)
    manifest = read.manifest
    table = Table("what", "value", title=f"{manifest.name} {manifest.version}")
    table.add_row("net", str(manifest.net))
    for half in (manifest.user_half, manifest.candidate_half):
        for kind, specs in (("in", half.inputs), ("out", half.outputs)):
            table.add_row(f"{half.file} {kind}", ", ".join(f"{s.name} {list(s.shape)}" for s in specs))
    for name, vocabulary in read.encoder.vocabularies.items():
        table.add_row(f"vocabulary {name}", f"{len(vocabulary):,} rows")
    table.add_row("catalogue", f"{len(read.encoder.catalogue.ids):,} items")
    for split, figures in manifest.metrics.items():
        table.add_row(f"metrics {split}", ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
    table.add_row("files", f"{len(manifest.files)} verified, {sum(map(len, read.files.values())) / 1e6:.1f} MB")
    console.print(table)


@app.command()
def synth(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Generate the configured synthetic log and write it as a task (the same as `prepare` with format "synthetic")."""
    with clear_errors():
        settings = read_config(config)
        if settings.data.format != "synthetic":
            raise ConfigError(file=str(config), key="data.format", found=settings.data.format, allowed="'synthetic'")
    prepare(config, out)


def main() -> None:
    """Entry point of the console script."""
    app()


def _read(settings: RunConfig) -> AnyLog:
    return read_any(settings)[0]


def _base_scores(base: Path, log: AnyLog, split: str) -> Scores:
    """The scores of a run of `base`; a split that it has not scored yet is scored now, and kept in the run."""
    run = load_run(base)
    if (kind := run.config["net"]["kind"]) != "base":
        raise ConfigError(file=str(base), key="net.kind", found=kind, allowed="'base': RelaImpr is against that net")
    if split not in scored_splits(base):
        save_figures(base, evaluated(run, log, split=split))
        console.print(f"scored {base} as well", soft_wrap=True)
    return read_compared(base, split).scores


if __name__ == "__main__":
    main()
