"""How the broker is verified: by its certificate and its name, with TLS 1.2 or newer.

py-amqp by itself checks the name only when it is told one, so that any certificate of a trusted authority would do.
"""

import ssl
from typing import Any

from reliable_tasks.errors import SettingError
from reliable_tasks.settings.addresses import Address
from reliable_tasks.settings.tls import CA_PARAMETER

OLDEST = ssl.TLSVersion.TLSv1_2


def authorities(address: Address) -> str | None:
    """The file of the authorities that the broker's address names; None is the system's."""
    return dict(address.query).get(CA_PARAMETER)


def context(ca: str | None) -> ssl.SSLContext:
    """A context that verifies certificate and name.

    Raises:
        SettingError: when the file of the authorities cannot be used.
    """
    try:
        made = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise SettingError(
            f"the certificate authorities in {ca} cannot be used: {error.strerror or error}",
            hint="RELIABLE_TASKS_TLS_CA names a PEM file that this user can read",
        ) from error
    made.minimum_version = OLDEST
    return made


def options(address: Address) -> dict[str, Any] | bool:
    """The same for py-amqp and kombu, which make the context themselves; False without TLS."""
    if address.scheme != "amqps":
        return False
    ca = authorities(address)
    context(ca)  # says now what is wrong with it
    return {
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": address.host,
        "tls_minimum_version": OLDEST,
        **({"ca_certs": ca} if ca else {}),
    }
