# Delete a key that was made here, unless a certificate uses it. One that is not there is no error.
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [ValidatePattern('^certgate-[a-z0-9-]+$')] [string] $KeyName
)

$ErrorActionPreference = 'Stop'

$provider = [System.Security.Cryptography.CngProvider]::MicrosoftSoftwareKeyStorageProvider
if (-not [System.Security.Cryptography.CngKey]::Exists($KeyName, $provider, 'MachineKey')) {
    return
}
foreach ($certificate in Get-ChildItem -LiteralPath 'Cert:\LocalMachine\My', 'Cert:\LocalMachine\WebHosting') {
    $rsa = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($certificate)
    $ecdsa = [System.Security.Cryptography.X509Certificates.ECDsaCertificateExtensions]::GetECDsaPrivateKey($certificate)
    foreach ($used in @($rsa, $ecdsa)) {
        if ($null -ne $used -and $null -ne $used.Key -and $used.Key.KeyName -eq $KeyName) {
            throw 'A certificate uses this key.'
        }
    }
}
[System.Security.Cryptography.CngKey]::Open($KeyName, $provider, 'MachineKey').Delete()
