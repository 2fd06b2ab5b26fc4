"""What some tests need that not every user may do, as markers."""

import pytest

from nameserver import can_serve_names
from weir import can_name_hosts

needs_names = pytest.mark.skipif(not can_name_hosts(), reason="may not mount an /etc/hosts")


def needs_nameserver(address):
    """ADDRESS is each module's own, since modules may run at the same time."""
    return pytest.mark.skipif(not can_serve_names(address), reason="may not listen on port 53")
