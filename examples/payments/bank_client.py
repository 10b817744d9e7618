"""The receiving bank over HTTP, and what each way to fail says about whether the charge was made."""

import http.client
import json
import os
from decimal import Decimal
from urllib.parse import quote

from reliable_tasks import TransientError

BANK_ADDRESS = "PAYMENTS_BANK"
"""Environment variable: host:port of the bank."""

SECONDS = 2.0


class BankUnclear(Exception):
    """The bank may have charged: no answer in time, a connection that broke, or a 500."""


def charge(key: str, bank_to: str, account_to: str, amount: Decimal) -> str:
    """Have the bank make a charge; returns its number.

    Raises:
        TransientError: when certainly nothing was charged.
        BankUnclear: when nobody can tell.
    """
    body = json.dumps({"bank_to": bank_to, "account_to": account_to, "amount": str(amount)})
    status, answer = _call("POST", key, body)
    if status == 200:
        return answer
    if status == 503:
        raise TransientError("the bank is closed and has charged nothing")
    raise BankUnclear(f"the bank answered {status}")


def ask(key: str) -> str | None:
    """The number of the charge with this key; "" when there is none; None when the bank cannot tell.

    Raises:
        BankUnclear: when the bank does not answer.
    """
    status, answer = _call("GET", key, None)
    if status == 200:
        return answer
    if status == 404:
        return ""
    if status == 409:
        return None
    raise BankUnclear(f"the bank answered {status}")


def _call(method: str, key: str, body: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(os.environ[BANK_ADDRESS], timeout=SECONDS)
    try:
        try:
            connection.connect()
        except OSError as error:
            if method == "GET":
                raise BankUnclear("the bank cannot be reached") from error
            raise TransientError("the bank cannot be reached, so nothing was charged") from error
        try:
            connection.request(method, f"/charges/{quote(key, safe='')}", body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise BankUnclear(f"the bank did not answer: {type(error).__name__}") from error
    finally:
        connection.close()
