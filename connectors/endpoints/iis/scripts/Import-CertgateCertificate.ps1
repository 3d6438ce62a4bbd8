# A certificate with its key into a store of the machine, where the key can't be exported; its intermediates beside it.
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [byte[]] $Pfx,
    [Parameter(Mandatory)] [securestring] $Password,
    [Parameter(Mandatory)] [ValidatePattern('^[0-9A-Fa-f]{40}$')] [string] $Thumbprint,
    [Parameter(Mandatory)] [string] $FriendlyName,
    [Parameter(Mandatory)] [ValidateSet('My', 'WebHosting')] [string] $Store,
    [string[]] $Intermediate = @()
)

$ErrorActionPreference = 'Stop'

# Before the key is written anywhere: this is where a missing right shows.
$opened = [System.Security.Cryptography.X509Certificates.X509Store]::new($Store, 'LocalMachine')
$opened.Open('ReadWrite, OpenExistingOnly')
$authorities = [System.Security.Cryptography.X509Certificates.X509Store]::new('CA', 'LocalMachine')
try {
    $authorities.Open('ReadWrite, OpenExistingOnly')
    foreach ($encoded in $Intermediate) {
        $authority = [System.Security.Cryptography.X509Certificates.X509Certificate2]::new(
            [Convert]::FromBase64String($encoded))
        $authorities.Add($authority)
    }
    $there = $opened.Certificates.Find('FindByThumbprint', $Thumbprint, $false)
    if ($there.Count -gt 0 -and $there[0].HasPrivateKey) {
        return
    }
    $certificate = [System.Security.Cryptography.X509Certificates.X509Certificate2]::new(
        $Pfx, $Password, 'MachineKeySet, PersistKeySet')
    try {
        if ($certificate.Thumbprint -ne $Thumbprint -or -not $certificate.HasPrivateKey) {
            throw 'The archive does not hold the certificate with its key.'
        }
        $certificate.FriendlyName = $FriendlyName
        $opened.Add($certificate)
    }
    catch {
        # The key is in the machine's key storage already, and nothing would ever take it away.
        $rsa = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($certificate)
        $ecdsa = [System.Security.Cryptography.X509Certificates.ECDsaCertificateExtensions]::GetECDsaPrivateKey($certificate)
        if ($rsa -is [System.Security.Cryptography.RSACryptoServiceProvider]) {
            $rsa.PersistKeyInCsp = $false
            $rsa.Dispose()
        }
        elseif ($null -ne $rsa) {
            $rsa.Key.Delete()
        }
        elseif ($null -ne $ecdsa) {
            $ecdsa.Key.Delete()
        }
        throw
    }
}
finally {
    $authorities.Close()
    $opened.Close()
}
