"""The dashboard: a face on `operations/` in the browser. No rules and no SQL in here."""
