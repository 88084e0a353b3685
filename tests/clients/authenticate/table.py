"""The whole table."""

from tests.clients.authenticate import in_cookies, in_documents, in_headers, in_machines, in_returns, in_satellites
from tests.clients.authenticate.case import Case

CASES: tuple[Case, ...] = (
    *in_headers.rows(),
    *in_cookies.rows(),
    *in_documents.rows(),
    *in_satellites.rows(),
    *in_returns.rows(),
    *in_machines.rows(),
)
