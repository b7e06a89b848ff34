"""Everything a caller can be refused with. One JSON shape for all: {"error", "error_type", "request_id"}.

ServiceError                 status  error_type
├── InvalidRequest              422  invalid_request    the caller must change the request
├── Unauthorized                401  unauthorized       the key is missing
├── Forbidden                   403  forbidden          a key that is none of those that count
├── ForeignOrigin               403  foreign_origin     a web page of somebody else sends what would change something
├── Conflict                    409  conflict           what there is does not allow it; the message says what
├── TooLarge                    413  too_large          body, candidates or history above a limit of this service
├── Overloaded                  429  overloaded         no room now; Retry-After says when to try again
├── NotReady                    503  not_ready          no verified bundle, or a dead compute worker
├── StoreUnavailable            503  store_unavailable  the store failed a write or a look; Retry-After
├── DeadlineExceeded            504  deadline_exceeded  the deadline passed in queue, store or compute
├── ComputeFailed               500  compute_failed     the net failed or gave a score that is not a number
└── ClientGone                  499  client_gone        nobody is left to answer; only seen in logs and metrics

Routing adds 404 `not_found` and 405 `method_not_allowed`; anything unexpected is a 500 `internal_error` without
detail. Every message is safe to show: it never quotes a stack, a secret, or more than 80 characters of the input.
"""

_LONGEST_RETRY_S = 60


class ServiceError(Exception):
    """A refusal. The message goes to the caller."""

    status = 500
    error_type = "internal_error"
    retry_after_s: int | None = None


class InvalidRequest(ServiceError):
    """The request breaks the contract; the message names the field, what was found and what is allowed."""

    status = 422
    error_type = "invalid_request"


class Unauthorized(ServiceError):
    """No key was sent to a route that needs one."""

    status = 401
    error_type = "unauthorized"


class Forbidden(ServiceError):
    """Another key than the right one; the message does not repeat it."""

    status = 403
    error_type = "forbidden"


class ForeignOrigin(ServiceError):
    """A visitor's browser was told to send this by a page that is not ours."""

    status = 403
    error_type = "foreign_origin"


class Conflict(ServiceError):
    """What is there stands against it: no such version, a bad bundle, nothing to go back to."""

    status = 409
    error_type = "conflict"


class TooLarge(ServiceError):
    """The request is above a configured limit, which the message names."""

    status = 413
    error_type = "too_large"


class Overloaded(ServiceError):
    """No room, or no hope to keep the deadline. Refused at the door, before store and compute."""

    status = 429
    error_type = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = min(max(retry_after_s, 1), _LONGEST_RETRY_S)


class NotReady(ServiceError):
    """There is nothing to score with; the message says why."""

    status = 503
    error_type = "not_ready"


class StoreUnavailable(ServiceError):
    """The store could not do what was asked, or not in time. Whatever it was, asking again is right."""

    status = 503
    error_type = "store_unavailable"
    retry_after_s = 1


class DeadlineExceeded(ServiceError):
    """The answer would come too late to be useful."""

    status = 504
    error_type = "deadline_exceeded"


class ComputeFailed(ServiceError):
    """The net could not be run on this request. The cause is in the log, not in the message."""

    status = 500
    error_type = "compute_failed"


class ClientGone(ServiceError):
    """The caller closed the connection before the answer; its work was dropped."""

    status = 499
    error_type = "client_gone"
