# certgate's scripts as functions, for a session configuration that runs nothing else (JEA). The scripts lie beside this
# file: what is a function here is the same text that certgate sends where there is no such configuration.
foreach ($file in Get-ChildItem -LiteralPath $PSScriptRoot -Filter '*-Certgate*.ps1') {
    Set-Item -LiteralPath (Join-Path -Path 'Function:' -ChildPath $file.BaseName) -Value (Get-Command -Name $file.FullName).ScriptBlock
}
Export-ModuleMember -Function '*-Certgate*'
