"""Where a request's time goes, and what the store has to do with it."""

from monitoring.panels import Panel, Row, gauge, mean, per_second, quantile, share

_DEGRADED = per_second("ctr_scored_total", by="degraded", where='degraded!="none"')

_phases = Row(
    title="Phases of POST /score",
    panels=(
        Panel(
            title="Phases, p99",
            about="queue: wait for a compute thread. store: the history from Redis.",
            queries=((quantile(0.99, "ctr_phase_seconds", by="phase"), "{{phase}}"),),
            unit="s",
            limits=((0.03, "red"),),
            alerts=("CtrLatencyBurnFast",),
        ),
        Panel(
            title="Phases, p50",
            about="What is usual.",
            queries=((quantile(0.5, "ctr_phase_seconds", by="phase"), "{{phase}}"),),
            unit="s",
        ),
        Panel(
            title="Phases, mean",
            about="Stacked: what one request costs. What is in no phase, such as waiting for the body, is missing.",
            queries=((mean("ctr_phase_seconds", by="phase", where='phase!="total"'), "{{phase}}"),),
            unit="s",
            stacked=True,
        ),
    ),
)

_queue = Row(
    title="Queue",
    panels=(
        Panel(
            title="Rows waiting or computed",
            about="At CTR_QUEUE_ROWS, of each process, requests are refused with 429.",
            queries=((gauge("ctr_rows", by="instance"), "{{instance}}"),),
            alerts=("CtrAvailabilityBurnFast",),
        ),
        Panel(
            title="Wait for a compute thread",
            about="Far below the time to compute, unless there is more to do than threads can.",
            queries=tuple(
                (quantile(q, "ctr_phase_seconds", where='phase="queue"'), name)
                for q, name in ((0.5, "p50"), (0.99, "p99"))
            ),
            unit="s",
        ),
        Panel(
            title="Rows per batch",
            about="Rows that a thread took in one go.",
            queries=((mean("ctr_batch_rows"), "mean"), (quantile(0.99, "ctr_batch_rows"), "p99")),
        ),
    ),
)

_store = Row(
    title="Degraded answers and the store",
    panels=(
        Panel(
            title="Share of degraded answers",
            about="history: the store failed, the history counted as empty. prior: click rates of the items alone.",
            queries=(
                (f"{_DEGRADED} / on () group_left {per_second('ctr_scored_total')}", "{{degraded}}"),
                ('job:ctr_scored_degraded:ratio_rate1h{job=~"$job"}', "all, over 1h"),
            ),
            unit="percentunit",
            limits=((0.01, "orange"), (0.1, "red")),
            alerts=("CtrDegradedAnswers",),
        ),
        Panel(
            title="Requests scored",
            about="By level of degradation.",
            queries=((per_second("ctr_scored_total", by="degraded"), "{{degraded}}"),),
            unit="reqps",
            stacked=True,
            alerts=("CtrDegradedAnswers",),
        ),
        Panel(
            title="Servers left alone",
            about="They failed CTR_STORE_FAILURES times in a row, and a probe finds out when they are back.",
            queries=((gauge("ctr_store_circuit", "max", by="instance"), "{{instance}}"),),
            limits=((1, "red"),),
            alerts=("CtrStoreCircuitOpen",),
        ),
        Panel(
            title="What the store was asked for",
            about="read: histories. append: events. items: new items. marks: feedback that was counted already.",
            queries=((per_second("ctr_store_operations_total", by="operation"), "{{operation}}"),),
            unit="ops",
        ),
        Panel(
            title="What the store failed to do",
            about="Failed or too late.",
            queries=(
                (
                    per_second("ctr_store_operations_total", by="operation", where='outcome="failed"'),
                    "{{operation}}",
                ),
            ),
            unit="ops",
            alerts=("CtrDegradedAnswers", "CtrStoreCircuitOpen"),
        ),
        Panel(
            title="Time of the store",
            about="The phase `store` of POST /score.",
            queries=tuple(
                (quantile(q, "ctr_phase_seconds", where='phase="store"'), name)
                for q, name in ((0.5, "p50"), (0.99, "p99"))
            ),
            unit="s",
        ),
        Panel(
            title="Behaviors that the net saw",
            about="Per scored request. A fall: events do not arrive, or histories were lost.",
            queries=((mean("ctr_history_length"), "mean"), (quantile(0.5, "ctr_history_length"), "p50")),
            alerts=("CtrEventLag", "CtrConsumerDown"),
        ),
        Panel(
            title="Requests without a history",
            about="New users, and those whose history the store did not give.",
            queries=(
                (
                    share(
                        per_second("ctr_history_length_bucket", where='le="0.0"'),
                        per_second("ctr_history_length_count"),
                    ),
                    "share",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Items newer than the bundle",
            about="missing: nobody loaded them. failed: Redis did not answer.",
            queries=((per_second("ctr_new_items_total", by="outcome"), "{{outcome}}"),),
            unit="ops",
        ),
    ),
)

ROWS = (_phases, _queue, _store)
