#!/bin/sh
# Brings Temporal's two databases to the schema of this server version.
set -eu
SQL_PASSWORD=$(cat "$SQL_PASSWORD_FILE")
export SQL_PASSWORD

for database in temporal temporal_visibility; do
  versions=/etc/temporal/schema/postgresql/v12/${database#temporal_}/versioned
  # An upgrade comes first: on a database in use nothing else may be tried. It fails where there is no schema yet.
  if temporal-sql-tool --db "$database" update-schema -d "$versions" 2>/dev/null; then
    continue
  fi
  # PostgreSQL itself makes the first one of them.
  temporal-sql-tool --db "$database" create || true
  temporal-sql-tool --db "$database" setup-schema -v 0.0
  temporal-sql-tool --db "$database" update-schema -d "$versions"
done
