"""Which bundles serve, and whether what they say is still true."""

from monitoring.panels import Panel, Row, gauge, in_an_hour, mean, per_second, quantile, share

_DAYS_7 = 7 * 86400

_bundles = Row(
    title="Bundles, canary and shadow",
    panels=(
        Panel(
            title="Bundles that serve",
            about="Replicas by version. Two stable versions for longer than a look and a load: one replica is stuck.",
            queries=((gauge("ctr_bundle_info", by="name, version, role"), "{{role}} {{name}} {{version}}"),),
            alerts=("CtrBundlesDiffer", "CtrBundleRefused"),
        ),
        Panel(
            title="Age of the bundles",
            about="Since they were exported.",
            queries=(
                (
                    f"time() - {gauge('ctr_bundle_created_timestamp_seconds', 'min', by='role, version')}",
                    "{{role}} {{version}}",
                ),
            ),
            unit="s",
            limits=((_DAYS_7, "orange"),),
            alerts=("CtrBundleStale",),
        ),
        Panel(
            title="Loads",
            about="Bundles that began to serve, and that were refused, in an hour.",
            queries=((in_an_hour("ctr_bundle_loads_total", by="outcome"), "{{outcome}}"),),
            alerts=("CtrBundleRefused",),
        ),
        Panel(
            title="Time to load",
            about="To fetch, verify and warm up; the mean since the start.",
            queries=((share(gauge("ctr_bundle_load_seconds_sum"), gauge("ctr_bundle_load_seconds_count")), "mean"),),
            unit="s",
        ),
        Panel(
            title="Requests by role",
            about="Of the bundle that scored them; shadow is beside the answers.",
            queries=((per_second("ctr_scored_by_role_total", by="role"), "{{role}}"),),
            unit="reqps",
        ),
        Panel(
            title="Shadow requests",
            about="dropped: answers go first. failed: the other bundle could not score the request.",
            queries=((per_second("ctr_shadow_total", by="outcome"), "{{outcome}}"),),
            unit="reqps",
        ),
        Panel(
            title="Difference to the other bundle",
            about="Absolute, of pCTR, per candidate of shadow requests.",
            queries=(
                (quantile(0.5, "ctr_shadow_difference"), "p50"),
                (quantile(0.99, "ctr_shadow_difference"), "p99"),
                (mean("ctr_shadow_difference"), "mean"),
            ),
        ),
    ),
)

_truth = Row(
    title="Drift and calibration",
    panels=(
        Panel(
            title="PSI of the scores",
            about="Against the validation split, of some 1000 requests. 0.1: look. 0.2: another population.",
            queries=((gauge("ctr_pctr_psi", "max", by="role"), "{{role}}"),),
            limits=((0.1, "orange"), (0.2, "red")),
            alerts=("CtrScoreDrift",),
        ),
        Panel(
            title="Predicted over observed clicks",
            about="1 is calibrated; above, the service promises too much. With n clicks it is known to 1/sqrt(n).",
            queries=(
                ('job_role:ctr_calibration:ratio_increase6h{job=~"$job"}', "{{role}}, 6h"),
                (
                    share(
                        per_second("ctr_feedback_pctr_total", by="role"),
                        per_second("ctr_feedback_clicks_total", by="role"),
                    ),
                    "{{role}}, now",
                ),
            ),
            alerts=("CtrCalibrationDrift",),
        ),
        Panel(
            title="pCTR",
            about="Of candidates that were not degraded.",
            queries=(
                (mean("ctr_pctr", by="role"), "{{role}}, mean"),
                (quantile(0.5, "ctr_pctr", by="role"), "{{role}}, p50"),
                (quantile(0.95, "ctr_pctr", by="role"), "{{role}}, p95"),
            ),
            alerts=("CtrScoreDrift",),
        ),
        Panel(
            title="Click rate",
            about="Clicks of reported impressions, by the role of the bundle that scored them.",
            queries=(
                (
                    share(
                        per_second("ctr_feedback_clicks_total", by="role"),
                        per_second("ctr_feedback_impressions_total", by="role"),
                    ),
                    "{{role}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Feedback",
            about="Requests reported, and the impressions in them.",
            queries=(
                (per_second("ctr_feedback_total", by="outcome"), "{{outcome}}"),
                (per_second("ctr_feedback_impressions_total"), "impressions"),
            ),
            unit="ops",
            alerts=("CtrFeedbackStopped",),
        ),
        Panel(
            title="What training never saw",
            about="Share of candidates with an unknown item or feature, and of requests with an unknown user.",
            queries=(
                (share(per_second("ctr_unknown_items_total"), per_second("ctr_candidates_sum")), "items"),
                (share(per_second("ctr_unknown_features_total"), per_second("ctr_candidates_sum")), "features"),
                (share(per_second("ctr_unknown_users_total"), per_second("ctr_scored_total")), "users"),
                ('job:ctr_unknown_items:ratio_rate1h{job=~"$job"}', "items, over 1h"),
            ),
            unit="percentunit",
            alerts=("CtrUnknownItems",),
        ),
        Panel(
            title="Feature log",
            about="dropped: the disk is too slow. failed: it is full, or the folder is gone.",
            queries=((per_second("ctr_feature_log_lines_total", by="outcome"), "{{outcome}}"),),
            unit="ops",
            alerts=("CtrFeatureLogFailing",),
        ),
    ),
)

ROWS = (_bundles, _truth)
