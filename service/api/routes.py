"""The routes. POST /score reads its own bytes and writes its own: no object per candidate on the way."""

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse

from service.api.answers import json_answer
from service.api.body import deadline_s, read_body, unless_gone
from service.api.exchange import Exchange, exchange_of
from service.api.observe import SCORE_PATH, Endpoint
from service.api.openapi import DOOR, LIVEZ_RESPONSES, ROLE_PARAMETER, SCORE_REQUEST, SCORE_RESPONSES, refusals
from service.api.parse import Parsed, read_envelope
from service.api.render import answered, render_explanation, render_rows, render_scored
from service.api.rows import CompiledRows
from service.config import Settings
from service.errors import InvalidRequest
from service.events import shown
from service.feature_log import FeatureLog
from service.metrics import Metrics
from service.scoring.engine import Clock
from service.scoring.scored import Scored
from service.serving import Served, Serving
from service.shadow import Answered, Shadow
from service.source import ROLES, Role
from service.vitals import Vitals

Explanation = Mapping[str, object]  # what it adds to an answer; empty where nobody asked

ROUTES = (SCORE_PATH, "/livez", "/readyz", "/metrics", "/bundle", "/docs", "/openapi.json")


class DirectRoute(APIRoute):
    """A documented route whose endpoint takes the request and returns the response itself.

    FastAPI's dependency solving and body parsing, which it does not need, would cost more than the parsing of 500
    candidates.
    """

    def get_route_handler(self) -> Callable[[Request], object]:  # type: ignore[override]  # a coroutine function
        """The endpoint as it is."""
        endpoint: Endpoint = self.endpoint
        return endpoint


class Routes:
    """The endpoints, over what they need."""

    def __init__(  # noqa: PLR0913  # what the endpoints need, each of them
        self,
        serving: Serving,
        settings: Settings,
        *,
        metrics: Metrics,
        clock: Clock,
        vitals: Vitals,
        shadow: Shadow,
        compiled: CompiledRows | None,
        feature_log: FeatureLog,
    ) -> None:
        self._serving = serving
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._vitals = vitals
        self._shadow = shadow
        self._compiled = compiled
        self._feature_log = feature_log

    async def score(self, request: Request) -> Response:
        """Predicted click probability of every candidate for one user, and its rank."""
        exchange = exchange_of(request.scope)
        self._serving.current()  # before the body: a service that cannot answer should not read
        settings = self._settings
        granted = deadline_s(request.scope, default_ms=settings.deadline_ms, max_ms=settings.max_deadline_ms)
        exchange.granted_s = granted
        raw = await read_body(request.scope, request.receive, limit=settings.max_body_bytes, timeout_s=granted)
        received = exchange.received = self._clock()
        if not settings.allow_prior:
            self._serving.engine.check_wait()
        body = read_envelope(raw, self._compiled)
        exchange.request_id = body.request_id or exchange.request_id
        served = self._serving.of_role(body.bundle) if body.bundle else self._serving.route(body.user_id)
        exchange.bundle_version = served.version
        parsed = served.parser.parse(body, deadline=exchange.started + granted)
        exchange.candidates = parsed.request.count
        exchange.phases["parse"] = self._clock() - received
        scored, explanation = await unless_gone(request.receive, self._scored(served, parsed, exchange))
        self._note(exchange, scored, role=served.role)
        answer = self._render(exchange, parsed, scored, explanation)
        shadowed, logged = self._shadow.wants(exchange.request_id), self._feature_log.wants(exchange.request_id)
        if shadowed or logged:
            done = Answered(
                request_id=exchange.request_id, body=body, request=parsed.request, scored=scored, served=served
            )
            if logged:
                self._feature_log.scored(done)
            if shadowed:
                answer.background = BackgroundTask(self._shadow.begin, done)  # once the answer was sent
        return answer

    async def livez(self, _: Request) -> Response:
        """200 as long as the process answers and could compute; load and readiness do not matter."""
        if self._serving.engine.lost:
            return json_answer({"status": "dead", "error": "compute threads died; only a restart helps"}, status=503)
        return json_answer({"status": "alive"})

    async def readyz(self, _: Request) -> Response:
        """200 if a verified bundle serves and the process is to stay; else 503 with the reason."""
        manifest = self._vitals.ready().loaded.manifest
        return json_answer({"status": "ready", "bundle_version": manifest.version})

    async def bundle(self, request: Request) -> Response:
        """The manifest of the bundle that serves now, or of the canary."""
        return json_answer(self._serving.of_role(asked_role(request)).loaded.manifest)

    async def metrics(self, _: Request) -> Response:
        """All metrics in the Prometheus text format, of all processes behind the port."""
        self._vitals.refresh()
        return Response(generate_latest(self._metrics.shown), media_type=CONTENT_TYPE_LATEST)

    async def _scored(self, served: Served, parsed: Parsed, exchange: Exchange) -> tuple[Scored, Explanation]:
        """The scores, and why they are what they are where that was asked for."""
        if not parsed.explain:
            return await served.scorer.score(parsed.request), {}
        served.explaining.check()  # before anything is computed
        scored = await served.scorer.score(parsed.request)
        began = self._clock()
        found = await served.explaining.explain(parsed.request, scored, answered(scored, parsed.top_k))
        exchange.phases["explain"] = self._clock() - began
        return scored, {"explanation": render_explanation(found)}

    def _note(self, exchange: Exchange, scored: Scored, *, role: Role) -> None:
        times = scored.timings
        exchange.phases |= {
            "store": times.store_s,
            "encode": times.encode_s,
            "queue": times.queue_s,
            "compute": times.compute_s,
        }
        exchange.degraded = scored.degraded
        self._metrics.scores.record(scored)
        self._metrics.bundles.scored(role)
        if scored.degraded == "none":  # other scores are not the net's, or not of what it was trained on
            self._metrics.bundles.pctr.record(role, scored.pctr)

    def _render(self, exchange: Exchange, parsed: Parsed, scored: Scored, explanation: Explanation) -> Response:
        began = exchange.rendering = self._clock()
        ms = {name: seconds * 1e3 for name, seconds in exchange.phases.items()}
        ms["total"] = (began - exchange.started) * 1e3
        head = {"request_id": exchange.request_id, "bundle_version": exchange.bundle_version, **explanation}
        rows = render_rows(scored, parsed.item_ids, top_k=parsed.top_k, compiled=self._compiled)
        raw = render_scored(scored, rows, head=head, ms=ms)
        exchange.phases["render"] = self._clock() - began
        timing = ", ".join(f"{name};dur={value:.2f}" for name, value in ms.items())
        return Response(raw, media_type="application/json", headers={"server-timing": timing})


def asked_role(request: Request) -> Role:
    """The bundle that the query asks for, by default the stable one. Raises InvalidRequest."""
    asked = request.query_params.get("role", "stable")
    if asked not in ROLES:
        raise InvalidRequest(f"role: found {shown(asked)}, allowed: {', '.join(ROLES)}")
    return asked


def make_router(routes: Routes) -> APIRouter:
    """The router that FastAPI mounts and documents."""
    router = APIRouter(route_class=DirectRoute)
    router.add_api_route(
        SCORE_PATH, routes.score, methods=["POST"], responses=SCORE_RESPONSES, openapi_extra=SCORE_REQUEST
    )
    router.add_api_route("/livez", routes.livez, methods=["GET"], responses=LIVEZ_RESPONSES)
    router.add_api_route("/readyz", routes.readyz, methods=["GET"], responses=refusals(503))
    router.add_api_route(
        "/bundle",
        routes.bundle,
        methods=["GET"],
        responses=refusals(*DOOR, 409, 422, 503),
        openapi_extra={"parameters": [ROLE_PARAMETER]},
    )
    router.add_api_route("/metrics", routes.metrics, methods=["GET"], response_class=PlainTextResponse)
    return router
