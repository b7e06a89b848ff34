"""Whether the promise is kept, and what is asked for."""

from monitoring.panels import Panel, Row, gauge, mean, per_second, quantile

SCORE = 'route="/score"'
_JOB = '{job=~"$job"}'
_BURN = tuple((window, f"{{{{job}}}}, {window}") for window in ("5m", "1h", "6h", "3d"))
_BURN_LIMITS = ((1, "yellow"), (6, "orange"), (14.4, "red"))

_promise = Row(
    title="Is the promise kept?",
    panels=(
        Panel(
            title="Ready replicas",
            about="Replicas that say that they can score.",
            queries=((gauge("ctr_ready"), ""),),
            limits=((1, "green"),),
            low_is_bad=True,
            alerts=("CtrNoReadyReplica", "CtrReplicaNotReady"),
            number=True,
            width=4,
        ),
        Panel(
            title="Alerts that fire",
            about="See Prometheus' page of alerts for which.",
            queries=(('count(ALERTS{alertname=~"Ctr.+",alertstate="firing"}) or vector(0)', ""),),
            limits=((1, "red"),),
            number=True,
            width=4,
        ),
        Panel(
            title="Answered",
            about="Share of POST /score that was answered, of those that callers got right, over 5 minutes.",
            queries=((f"1 - job:ctr_score_failed:rate5m{_JOB} / job:ctr_score_valid:rate5m{_JOB}", "{{job}}"),),
            unit="percentunit",
            limits=((0.99, "orange"), (0.999, "green")),
            low_is_bad=True,
            alerts=("CtrAvailabilityBurnFast", "CtrAvailabilityBurnSlow"),
            number=True,
            width=4,
        ),
        Panel(
            title="In time",
            about="Share of POST /score that took at most CTR_SLO_S, over 5 minutes.",
            queries=((f"1 - job:ctr_score_slow:rate5m{_JOB} / job:ctr_score:rate5m{_JOB}", "{{job}}"),),
            unit="percentunit",
            limits=((0.9, "orange"), (0.99, "green")),
            low_is_bad=True,
            alerts=("CtrLatencyBurnFast", "CtrLatencyBurnSlow"),
            number=True,
            width=4,
        ),
        Panel(
            title="Budget of failures",
            about="What is left of 30 days' budget; below 0 the promise is broken.",
            queries=((f"job:ctr_availability_budget:ratio_left30d{_JOB}", "{{job}}"),),
            unit="percentunit",
            limits=((0, "orange"), (0.5, "green")),
            low_is_bad=True,
            alerts=("CtrAvailabilityBurnSlow",),
            number=True,
            width=4,
        ),
        Panel(
            title="Budget of slow answers",
            about="What is left of 30 days' budget; below 0 the promise is broken.",
            queries=((f"job:ctr_latency_budget:ratio_left30d{_JOB}", "{{job}}"),),
            unit="percentunit",
            limits=((0, "orange"), (0.5, "green")),
            low_is_bad=True,
            alerts=("CtrLatencyBurnSlow",),
            number=True,
            width=4,
        ),
        Panel(
            title="Pace of failures",
            about="1 spends the budget in exactly 30 days. A page from 14.4 (1h) and 6 (6h) on.",
            queries=tuple((f"job:ctr_availability_burn:ratio_rate{w}{_JOB}", legend) for w, legend in _BURN),
            limits=_BURN_LIMITS,
            alerts=("CtrAvailabilityBurnFast", "CtrAvailabilityBurnSlow"),
        ),
        Panel(
            title="Pace of slow answers",
            about="1 spends the budget in exactly 30 days. A page from 14.4 (1h) and 6 (6h) on.",
            queries=tuple((f"job:ctr_latency_burn:ratio_rate{w}{_JOB}", legend) for w, legend in _BURN),
            limits=_BURN_LIMITS,
            alerts=("CtrLatencyBurnFast", "CtrLatencyBurnSlow"),
        ),
        Panel(
            title="Time of POST /score",
            about="From the arrival of the request to the end of the answer.",
            queries=tuple(
                (quantile(q, "ctr_phase_seconds", where='phase="total"'), name)
                for q, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))
            ),
            unit="s",
            limits=((0.03, "red"),),
            alerts=("CtrLatencyBurnFast", "CtrLatencyNotMeasured"),
        ),
    ),
)

_traffic = Row(
    title="Traffic",
    panels=(
        Panel(
            title="POST /score by status",
            about="429: no room. 503: not ready. 504: too late. 499: the caller left. Other 4xx: the caller's fault.",
            queries=((per_second("ctr_requests_total", by="code", where=SCORE), "{{code}}"),),
            unit="reqps",
            stacked=True,
            alerts=("CtrAvailabilityBurnFast",),
        ),
        Panel(
            title="POST /score refused, and too late",
            about="By error type, and answers that came after the deadline.",
            queries=(
                (per_second("ctr_refused_total", by="reason"), "{{reason}}"),
                (per_second("ctr_deadline_misses_total"), "after the deadline"),
            ),
            unit="reqps",
            alerts=("CtrAvailabilityBurnFast",),
        ),
        Panel(
            title="Requests by route",
            about="Probes and /metrics included.",
            queries=((per_second("ctr_requests_total", by="route"), "{{route}}"),),
            unit="reqps",
        ),
        Panel(
            title="Candidates per request",
            about="Explains most changes of the time to compute.",
            queries=((mean("ctr_candidates"), "mean"), (quantile(0.99, "ctr_candidates"), "p99")),
        ),
        Panel(
            title="Candidates scored",
            about="The work that is done.",
            queries=((per_second("ctr_candidates_sum"), "candidates"),),
            unit="ops",
        ),
        Panel(
            title="Requests in flight",
            about="Growing without end: the service is slower than its callers.",
            queries=((gauge("ctr_in_flight", by="instance"), "{{instance}}"),),
        ),
    ),
)

ROWS = (_promise, _traffic)
