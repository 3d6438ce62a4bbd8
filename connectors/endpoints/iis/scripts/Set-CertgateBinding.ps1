# Serve another certificate at one https binding of one site; with no thumbprint, none.
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [string] $Site,
    [Parameter(Mandatory)] [string] $Information,
    [Parameter(Mandatory)] [AllowEmptyString()] [ValidatePattern('^([0-9A-Fa-f]{40})?$')] [string] $Thumbprint,
    [Parameter(Mandatory)] [ValidateSet('My', 'WebHosting')] [string] $Store
)

$ErrorActionPreference = 'Stop'
Import-Module -Name WebAdministration

$found = @(foreach ($one in Get-Website) {
        if ($one.name -eq $Site) {
            $one.bindings.Collection | Where-Object { $_.protocol -eq 'https' -and $_.bindingInformation -eq $Information }
        }
    })
if ($found.Count -ne 1) {
    throw 'The site has no such https binding any more, or several.'
}
if ($Thumbprint -eq '') {
    $null = $found[0].RemoveSslCertificate()
}
else {
    $null = $found[0].AddSslCertificate($Thumbprint, $Store)
}
