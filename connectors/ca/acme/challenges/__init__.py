"""Ways to prove a name: `contract` what each does · `http01` · `tlsalpn01` · `answers` and `listener` for those that
this process answers itself."""
