# Delete certificates that certgate imported for a place, with their keys: not those imported last, and none in use.
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [ValidatePattern('^certgate .+ $')] [string] $Prefix,
    [Parameter(Mandatory)] [ValidateSet('My', 'WebHosting')] [string] $Store,
    [Parameter(Mandatory)] [ValidateRange(1, 100)] [int] $Keep,
    [string[]] $Except = @()
)

$ErrorActionPreference = 'Stop'

# Everything that http.sys serves, IIS or not; and remote desktop, which has its own way.
$used = [string] (& netsh.exe http show sslcert)
$desktop = Get-CimInstance -Namespace root/cimv2/TerminalServices -ClassName Win32_TSGeneralSetting -ErrorAction SilentlyContinue
$used += [string] $desktop.SSLCertificateSHA1Hash

$folder = Join-Path -Path 'Cert:\LocalMachine' -ChildPath $Store
$all = @(Get-ChildItem -LiteralPath $folder)
# The name ends with the time of the import.
$ours = $all | Where-Object { $_.FriendlyName.StartsWith($Prefix, [StringComparison]::Ordinal) }
$old = $ours | Sort-Object -Property FriendlyName -Descending | Select-Object -Skip $Keep
foreach ($certificate in $old) {
    if ($Except -contains $certificate.Thumbprint -or
        $used.IndexOf($certificate.Thumbprint, [StringComparison]::OrdinalIgnoreCase) -ge 0) {
        continue
    }
    # A certificate that was renewed with its key shares it.
    $key = $certificate.GetPublicKeyString()
    $same = @($all | Where-Object { $_.Thumbprint -ne $certificate.Thumbprint -and $_.GetPublicKeyString() -eq $key })
    Remove-Item -LiteralPath $certificate.PSPath -DeleteKey:($same.Count -eq 0)
    [pscustomobject]@{ Thumbprint = $certificate.Thumbprint }
}
