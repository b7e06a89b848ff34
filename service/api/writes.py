"""The routes that take what happened: behaviors and clicks. Both answer 202 and name what they reject."""

from fastapi import APIRouter

from service.api.events import EVENTS_PATH, Events
from service.api.feedback import FEEDBACK_PATH, FeedbackRoute
from service.api.openapi import EVENTS_REQUEST, EVENTS_RESPONSES, FEEDBACK_REQUEST, FEEDBACK_RESPONSES
from service.api.routes import DirectRoute


def make_writes_router(events: Events, feedback: FeedbackRoute) -> APIRouter:
    """The router that FastAPI mounts and documents."""
    router = APIRouter(route_class=DirectRoute)
    for path, endpoint, responses, request in (
        (EVENTS_PATH, events.append, EVENTS_RESPONSES, EVENTS_REQUEST),
        (FEEDBACK_PATH, feedback.report, FEEDBACK_RESPONSES, FEEDBACK_REQUEST),
    ):
        router.add_api_route(
            path, endpoint, methods=["POST"], status_code=202, responses=responses, openapi_extra=request
        )
    return router
