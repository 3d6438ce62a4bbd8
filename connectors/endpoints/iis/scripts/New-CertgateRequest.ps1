# A signing request of a key that is made here, if it is not there yet, and can't be exported.
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [ValidatePattern('^certgate-[a-z0-9-]+$')] [string] $KeyName,
    [Parameter(Mandatory)] [ValidateSet('RSA', 'ECDSA_P256', 'ECDSA_P384')] [string] $Algorithm,
    [Parameter(Mandatory)] [ValidateRange(0, 16384)] [int] $Length,
    [Parameter(Mandatory)] [string] $Subject,
    [string[]] $DnsName = @(),
    [string[]] $IpAddress = @()
)

$ErrorActionPreference = 'Stop'

$provider = [System.Security.Cryptography.CngProvider]::MicrosoftSoftwareKeyStorageProvider
if ([System.Security.Cryptography.CngKey]::Exists($KeyName, $provider, 'MachineKey')) {
    $key = [System.Security.Cryptography.CngKey]::Open($KeyName, $provider, 'MachineKey')
}
else {
    $creation = [System.Security.Cryptography.CngKeyCreationParameters]::new()
    $creation.Provider = $provider
    $creation.KeyCreationOptions = 'MachineKey'
    $creation.ExportPolicy = 'None'
    if ($Algorithm -eq 'RSA') {
        $creation.Parameters.Add([System.Security.Cryptography.CngProperty]::new(
                'Length', [BitConverter]::GetBytes($Length), 'None'))
    }
    $key = [System.Security.Cryptography.CngKey]::Create(
        [System.Security.Cryptography.CngAlgorithm]::new($Algorithm), $KeyName, $creation)
}

$name = [System.Security.Cryptography.X509Certificates.X500DistinguishedName]::new([Convert]::FromBase64String($Subject))
$hash = [System.Security.Cryptography.HashAlgorithmName]::SHA256
if ($key.AlgorithmGroup -eq [System.Security.Cryptography.CngAlgorithmGroup]::Rsa) {
    $private = [System.Security.Cryptography.RSACng]::new($key)
    $request = [System.Security.Cryptography.X509Certificates.CertificateRequest]::new(
        $name, $private, $hash, [System.Security.Cryptography.RSASignaturePadding]::Pkcs1)
}
else {
    $private = [System.Security.Cryptography.ECDsaCng]::new($key)
    $request = [System.Security.Cryptography.X509Certificates.CertificateRequest]::new($name, $private, $hash)
}
$names = [System.Security.Cryptography.X509Certificates.SubjectAlternativeNameBuilder]::new()
foreach ($one in $DnsName) {
    $names.AddDnsName($one)
}
foreach ($one in $IpAddress) {
    $names.AddIpAddress([System.Net.IPAddress]::Parse($one))
}
$request.CertificateExtensions.Add($names.Build($name.Name -eq ''))

[pscustomobject]@{ Request = [Convert]::ToBase64String($request.CreateSigningRequest()) }
