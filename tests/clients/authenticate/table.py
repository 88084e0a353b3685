"""The whole table."""

from tests.clients.authenticate import in_cookies, in_headers
from tests.clients.authenticate.case import Case

CASES: tuple[Case, ...] = (*in_headers.rows(), *in_cookies.rows())
