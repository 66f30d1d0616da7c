"""What DuckDB finds in an archive: DIRECTORY ndjson|parquet COUNT."""

import json
import sys

import duckdb

directory, form, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = "hive_partitioning=true, union_by_name=true"
if form == "parquet":
    source = f"read_parquet('{directory}/**/*.parquet', {options})"
    status, path, sequence, took = "http_response_status_code", "url_path", "sequence", "sidelight_duration_ms"
else:
    source = f"read_json('{directory}/**/*.ndjson.zst', format='newline_delimited', {options})"
    status, path, sequence, took = '"http.response.status_code"', '"url.path"', "id.sequence", '"sidelight.duration_ms"'


def ask(what, where="kind = 'exchange' AND service = 'checkout'"):
    return duckdb.sql(f"SELECT {what} FROM {source} WHERE {where}").fetchall()


def check(case, found, wanted):
    print(json.dumps({"case": case, "problem": None if found == wanted else f"{found} instead of {wanted}"}))


check("every exchange is there once", ask(f"count(*), count(DISTINCT {sequence})"), [(count, count)])
check("they say what was asked", sorted(ask(path)), sorted((f"/{number}",) for number in range(count)))
check("numbers are numbers", ask(f"sum({status})"), [(200 * count,)])
check("and so are times", ask(f"min({took}) > 0 AND max({took}) < 60000"), [(True,)])
hours = "strftime(CAST(timestamp AS TIMESTAMP), '%Y-%m-%d %H') = strftime(date, '%Y-%m-%d') || ' ' || lpad(CAST(hour AS VARCHAR), 2, '0')"
if form == "parquet":
    duckdb.sql("SET TimeZone = 'UTC'")
check("each is in the folder of its hour", ask("count(*)", f"NOT ({hours})"), [(0,)])
if form == "parquet":
    whole = "json_extract_string(event, '$.\"url.path\"')"
    check("the whole event is beside its columns", ask("count(*)", f"kind = 'exchange' AND {whole} = url_path"), [(count,)])
