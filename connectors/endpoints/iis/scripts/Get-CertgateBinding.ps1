# All https bindings of all sites, with what http.sys serves for them.
[CmdletBinding()]
param()

$ErrorActionPreference = 'Stop'
Import-Module -Name WebAdministration

$running = (Get-Service -Name W3SVC).Status -eq 'Running'
foreach ($site in Get-Website) {
    foreach ($binding in $site.bindings.Collection) {
        if ($binding.protocol -ne 'https') {
            continue
        }
        [pscustomobject]@{
            Site        = [string] $site.name
            Stopped     = $running -and $site.state -eq 'Stopped'
            Information = [string] $binding.bindingInformation
            SslFlags    = [int] $binding.sslFlags
            Thumbprint  = [string] $binding.certificateHash
            Store       = [string] $binding.certificateStoreName
        }
    }
}
