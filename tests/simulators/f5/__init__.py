"""A simulator of an F5 BIG-IP (TMOS 17), on loopback: iControl REST for certificates, and virtual servers with TLS.

For tests::

    from tests.simulators.f5 import Fault, Faults, Simulator

    with Simulator(faults=Faults.off()) as device:  # default: Faults.usual(1), what a client has to survive
        device.address, device.ca_file              # 127.0.0.1:PORT, and the root of its management certificate
        device.password                             # of certgate (least rights), admin and guest
        device.ports["vs_web"]                      # where a virtual server speaks TLS on 127.0.0.1
        device.inject(Fault.CUT_AFTER, on="PATCH /mgmt/tm/transaction")      # committed, and the reply is lost
        device.fail_over()                          # the other unit takes over, with the configuration that it has
        device.configuration, device.units, device.calls, device.refused_logins     # what came of it

It is two units of the device group ``failover-group`` behind one floating address, or one with ``units=1``. What they
are configured with at first stands in `layout`. Requests that change something are applied to a copy of the
configuration, which is checked as a whole before it takes the place of the present one: a key that does not match
(01070317), something that is there already (01020066), in use (01071349, 01070320) or missing (01070277, 01020036).

`simulator` the object above · `api` paths and answers · `unit` tokens, transactions, uploads · `configuration` what can
be changed and what is refused · `crypto` keys and certificates · `traffic` TLS · `layout` the first state · `faults`
what goes wrong · `control`, `command` a process of its own. How requests travel, and are cut, is the same as for
`tests.simulators.sectigo`.
"""

from __future__ import annotations

from tests.simulators.f5.faults import Fault, Faults
from tests.simulators.f5.problems import Problem
from tests.simulators.f5.simulator import Call, Simulator

__all__ = ["Call", "Fault", "Faults", "Problem", "Simulator"]
