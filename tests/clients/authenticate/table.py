"""The whole table."""

from tests.clients.authenticate import in_headers
from tests.clients.authenticate.case import Case

CASES: tuple[Case, ...] = (*in_headers.rows(),)
