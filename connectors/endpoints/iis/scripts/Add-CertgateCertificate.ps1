# A certificate whose key was made here (New-CertgateRequest) into a store of the machine; its intermediates beside it.
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [string] $Certificate,
    [Parameter(Mandatory)] [ValidatePattern('^certgate-[a-z0-9-]+$')] [string] $KeyName,
    [Parameter(Mandatory)] [string] $FriendlyName,
    [Parameter(Mandatory)] [ValidateSet('My', 'WebHosting')] [string] $Store,
    [string[]] $Intermediate = @()
)

$ErrorActionPreference = 'Stop'

$leaf = [System.Security.Cryptography.X509Certificates.X509Certificate2]::new([Convert]::FromBase64String($Certificate))
$provider = [System.Security.Cryptography.CngProvider]::MicrosoftSoftwareKeyStorageProvider
$key = [System.Security.Cryptography.CngKey]::Open($KeyName, $provider, 'MachineKey')
if ($key.AlgorithmGroup -eq [System.Security.Cryptography.CngAlgorithmGroup]::Rsa) {
    $private = [System.Security.Cryptography.RSACng]::new($key)
    $joined = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::CopyWithPrivateKey($leaf, $private)
}
else {
    $private = [System.Security.Cryptography.ECDsaCng]::new($key)
    $joined = [System.Security.Cryptography.X509Certificates.ECDsaCertificateExtensions]::CopyWithPrivateKey($leaf, $private)
}
$joined.FriendlyName = $FriendlyName

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
    $opened.Add($joined)
}
finally {
    $authorities.Close()
    $opened.Close()
}
