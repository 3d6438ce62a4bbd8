"""Windows hosts by WinRM (WS-Management, PowerShell remoting): scripts with parameters, nothing pasted into them."""

from connectors.hosts.winrm.host import CONNECTOR

__all__ = ["CONNECTOR"]
