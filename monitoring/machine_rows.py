"""Events on their way into the histories, and the processes themselves."""

from monitoring.panels import Panel, Row, gauge, in_an_hour, per_second

_events = Row(
    title="Events",
    panels=(
        Panel(
            title="Age of the oldest event that is not written",
            about="Of the consumer group's stream.",
            queries=((gauge("ctr_events_lag_seconds", "max", by="job"), "{{job}}"),),
            unit="s",
            limits=((60, "orange"), (900, "red")),
            alerts=("CtrEventLag", "CtrConsumerDown"),
        ),
        Panel(
            title="Events that are not written",
            about="Entries of the stream that are not acknowledged yet.",
            queries=((gauge("ctr_events_lag", "max", by="job"), "{{job}}"),),
            alerts=("CtrEventLag",),
        ),
        Panel(
            title="Events",
            about="Of POST /events and of the stream.",
            queries=((per_second("ctr_events_total", by="outcome"), "{{outcome}}"),),
            unit="ops",
            alerts=("CtrEventsRefused",),
        ),
        Panel(
            title="Share of events refused",
            about="invalid, late or in the future, over 30 minutes.",
            queries=(('job:ctr_events_refused:ratio_rate30m{job=~"$job"}', "{{job}}"),),
            unit="percentunit",
            limits=((0.01, "orange"),),
            alerts=("CtrEventsRefused",),
        ),
        Panel(
            title="Entries lost, dead and taken over",
            about="lost: cut by the producer before they were written. dead: in the dead-letter stream.",
            queries=(
                (per_second("ctr_events_lost_total"), "lost"),
                (per_second("ctr_events_dead_total"), "dead"),
                (per_second("ctr_events_claimed_total"), "taken over"),
            ),
            unit="ops",
            alerts=("CtrEventsLost", "CtrEventsRefused"),
        ),
        Panel(
            title="Tries that are repeated",
            about="At the store that is written to, or at the stream that is read. Nothing is lost meanwhile.",
            queries=((per_second("ctr_events_retries_total", by="at"), "{{at}}"),),
            unit="ops",
        ),
    ),
)

_processes = Row(
    title="Processes",
    panels=(
        Panel(
            title="Serving processes",
            about="CTR_WORKERS, of each replica.",
            queries=((gauge("ctr_processes", by="instance"), "{{instance}}"),),
            alerts=("CtrProcessMissing",),
        ),
        Panel(
            title="Restarts, crashes, lost log lines",
            about="In an hour.",
            queries=tuple(
                (in_an_hour(metric), legend)
                for metric, legend in (
                    ("ctr_process_restarts_total", "processes replaced"),
                    ("ctr_thread_crashes_total", "threads crashed"),
                    ("ctr_log_lines_lost_total", "log lines lost"),
                )
            ),
            limits=((1, "orange"),),
            alerts=("CtrProcessRestarts", "CtrThreadCrashed", "CtrLogLinesLost"),
        ),
        Panel(
            title="Scrapes that succeed",
            about="0: Prometheus does not reach the instance.",
            queries=((gauge("up", "min", by="job, instance"), "{{job}} {{instance}}"),),
            alerts=("CtrReplicaNotReady", "CtrConsumerDown"),
        ),
        Panel(
            title="CPU",
            about="Cores in use.",
            queries=((per_second("process_cpu_seconds_total", by="job, instance"), "{{job}} {{instance}}"),),
        ),
        Panel(
            title="Memory",
            about="Resident. A replica needs room for one bundle more than serve.",
            queries=((gauge("process_resident_memory_bytes", by="job, instance"), "{{job}} {{instance}}"),),
            unit="bytes",
        ),
        Panel(
            title="Open files",
            about="Connections are among them.",
            queries=((gauge("process_open_fds", by="job, instance"), "{{job}} {{instance}}"),),
        ),
    ),
)

ROWS = (_events, _processes)
