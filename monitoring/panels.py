"""A panel as data, queries by their common forms, and how both become Grafana's own objects."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardLink, DataSourceRef, Threshold, ThresholdsMode
from grafana_foundation_sdk.models.dashboard import Panel as GrafanaPanel

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
CHOSEN = 'job=~"$job",instance=~"$instance"'
RUNBOOKS = "${docs}/runbooks.md"
_STAT_HEIGHT, _GRAPH_HEIGHT = 4, 8
_FILL = 10  # percent


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What a panel shows. `limits` are (value, colour) above the first, which is green, or red where `low_is_bad`."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]  # PromQL and legend
    unit: str = "short"
    limits: tuple[tuple[float, str], ...] = ()
    low_is_bad: bool = False
    alerts: tuple[str, ...] = ()  # whose runbooks it links to
    number: bool = False  # one figure instead of a graph
    stacked: bool = False
    most: float | None = None  # of the axis
    width: int = 8  # of 24


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels below a heading."""

    title: str
    panels: tuple[Panel, ...]


def per_second(metric: str, *, by: str = "", where: str = "") -> str:
    """The rate of a counter over all chosen instances."""
    return f"sum{_by(by)} (rate({_chosen(metric, where)}[$__rate_interval]))"


def in_an_hour(metric: str, *, by: str = "") -> str:
    """By how much a counter of rare things grew."""
    return f"sum{_by(by)} (increase({_chosen(metric, '')}[1h]))"


def quantile(rank: float, metric: str, *, by: str = "", where: str = "") -> str:
    """A quantile of a histogram over all chosen instances."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({rank:g}, {per_second(f'{metric}_bucket', by=labels, where=where)})"


def mean(metric: str, *, by: str = "", where: str = "") -> str:
    """The mean of a histogram over all chosen instances."""
    return share(per_second(f"{metric}_sum", by=by, where=where), per_second(f"{metric}_count", by=by, where=where))


def share(part: str, whole: str) -> str:
    """One rate over another."""
    return f"{part} / {whole}"


def gauge(metric: str, how: str = "sum", *, by: str = "", where: str = "") -> str:
    """A gauge, over all chosen instances put together as `how` says."""
    return f"{how}{_by(by)} ({_chosen(metric, where)})"


def build(panel: Panel, *, number: int) -> Builder[GrafanaPanel]:
    """Grafana's own, with this id."""
    made = _number() if panel.number else _graph(panel)
    made.id(number).title(panel.title).description(panel.about).datasource(SOURCE).unit(panel.unit).links(_links(panel))
    made.height(_STAT_HEIGHT if panel.number else _GRAPH_HEIGHT).span(panel.width)
    low = "red" if panel.low_is_bad else "green"
    steps = [Threshold(value=None, color=low), *(Threshold(value=at, color=colour) for at, colour in panel.limits)]
    made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for letter, (expression, legend) in zip("ABCDEF", panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter)
        made.with_target(query.datasource(SOURCE).instant() if panel.number else query.datasource(SOURCE).range())
    return made


def _number() -> stat.Panel:
    return stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))


def _graph(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = timeseries.Panel().legend(legend.show_legend(True)).show_points(VisibilityMode.NEVER).fill_opacity(_FILL)
    made.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)).min(0)
    if panel.limits:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if panel.stacked:
        made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return made if panel.most is None else made.max(panel.most)


def _links(panel: Panel) -> list[Builder[DashboardLink]]:
    return [
        dashboard.DashboardLink(f"Runbook: {alert}").url(f"{RUNBOOKS}#{alert.lower()}").target_blank(True)
        for alert in panel.alerts
    ]


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _chosen(metric: str, where: str) -> str:
    return f"{metric}{{{CHOSEN}{',' if where else ''}{where}}}"
