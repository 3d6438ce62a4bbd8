"""A Windows server with IIS, as far as a WinRM client can tell: a stand-in at the level of the protocols.

There is no PowerShell here. The simulator speaks WS-Management (MS-WSMV) and PowerShell remoting (MS-PSRP), knows
certgate's scripts by their exact text, checks what it is given against the script's own ``param(…)``, and does by a
state of its own what the script would do: stores, key storage, sites, http.sys. What is bound is really served, by TLS
on loopback. pypsrp, which somebody else wrote against real Windows, is the client.

::

    with WinrmSimulator(folder) as simulator:
        simulator.windows.add_site("Shop", f"127.0.0.1:{port}:shop.example", flags=1)
        simulator.settings              # of a connection winrm
        simulator.inject(Fault.CUT_AFTER, "Set-CertgateBinding")
"""

from tests.simulators.winrm.faults import Fault
from tests.simulators.winrm.simulator import WinrmSimulator
from tests.simulators.winrm.windows import ScriptError, Windows

__all__ = ["Fault", "ScriptError", "Windows", "WinrmSimulator"]
