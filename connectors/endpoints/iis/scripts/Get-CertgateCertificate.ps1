# What http.sys serves at one https binding of one site: the certificate, and the chain that Windows builds for it.
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [string] $Site,
    [Parameter(Mandatory)] [string] $Information
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
$thumbprint = [string] $found[0].certificateHash
$store = [string] $found[0].certificateStoreName
if ($thumbprint -eq '') {
    return
}

$elements = @()
$private = $false
$opened = [System.Security.Cryptography.X509Certificates.X509Store]::new($store, 'LocalMachine')
$opened.Open('ReadOnly, OpenExistingOnly')
try {
    $there = $opened.Certificates.Find('FindByThumbprint', $thumbprint, $false)
    if ($there.Count -gt 0) {
        $private = $there[0].HasPrivateKey
        $chain = [System.Security.Cryptography.X509Certificates.X509Chain]::new($true)
        $chain.ChainPolicy.RevocationMode = 'NoCheck'
        $chain.ChainPolicy.VerificationFlags = 'AllFlags'
        $null = $chain.Build($there[0])
        $elements = @(foreach ($element in $chain.ChainElements) {
                [Convert]::ToBase64String($element.Certificate.RawData)
            })
    }
}
finally {
    $opened.Close()
}
[pscustomobject]@{
    Thumbprint    = $thumbprint
    Store         = $store
    HasPrivateKey = [bool] $private
    Chain         = [string[]] $elements
}
