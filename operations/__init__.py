"""What an administrator can do: authorize, act, audit. The one door for dashboard, command line and API."""
