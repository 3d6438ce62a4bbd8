# What certgate must know of this server: the build of Windows and whether IIS runs.
[CmdletBinding()]
param()

$ErrorActionPreference = 'Stop'

$service = Get-Service -Name W3SVC
[pscustomobject]@{
    Build   = [Environment]::OSVersion.Version.Build
    Running = $service.Status -eq 'Running'
}
