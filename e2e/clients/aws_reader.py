"""What the bucket `logs` and the stream `events` have: PORT s3|kinesis COUNT."""

import json
import sys
import tempfile
import time
from pathlib import Path

import boto3
import duckdb

port, service, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = boto3.client(
    service,
    region_name="us-east-1",
    endpoint_url=f"http://127.0.0.1:{port}",
    aws_access_key_id="AKID",
    aws_secret_access_key="secret",
)


def s3():
    events = []
    with tempfile.TemporaryDirectory() as directory:
        for number, entry in enumerate(client.list_objects_v2(Bucket="logs").get("Contents", [])):
            key = entry["Key"]
            if not key.startswith("mesh/events/service=checkout/kind="):
                raise ValueError(f"an object in a place of its own: {key}")
            path = Path(directory) / f"{number}.ndjson.zst"
            client.download_file("logs", key, str(path))
            # A CSV of one column: the lines as they are.
            query = f"SELECT * FROM read_csv('{path}', columns={{'line': 'VARCHAR'}}, delim='\\0', quote='', escape='', header=false, compression='zstd')"
            events += [json.loads(line) for (line,) in duckdb.sql(query).fetchall()]
    return events


def kinesis():
    events = []
    for shard in client.list_shards(StreamName="events")["Shards"]:
        place = client.get_shard_iterator(
            StreamName="events", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while place:
            answer = client.get_records(ShardIterator=place, Limit=1000)
            if not answer["Records"]:
                break
            for record in answer["Records"]:
                event = json.loads(record["Data"])
                event["key"] = record["PartitionKey"]
                events.append(event)
            place = answer.get("NextShardIterator")
    return events


def report(case, problem):
    print(json.dumps({"case": case, "problem": problem}))


deadline = time.monotonic() + 20
while True:
    events = {"s3": s3, "kinesis": kinesis}[service]()
    exchanges = [event for event in events if event["schema"] == "sidelight/exchange/1"]
    if len(exchanges) >= count or time.monotonic() > deadline:
        break
    time.sleep(0.1)

report("every exchange is there", None if len(exchanges) == count else f"{len(exchanges)} of {count}")
ids = {tuple(event["id"].items()) for event in events}
report("none is twice", None if len(ids) == len(events) else f"{len(events)} events with {len(ids)} ids")
paths = {event["url.path"] for event in exchanges}
wrong = paths ^ {f"/{number}" for number in range(count)}
report("they say what was asked", None if not wrong else f"{sorted(wrong)}")
if service == "kinesis":
    keys = {event["key"] for event in exchanges}
    report("the account is the key", None if keys == {"a0", "a1", "a2"} else f"{keys}")
    for key in sorted(keys):
        order = [event["id"]["sequence"] for event in exchanges if event["key"] == key]
        report(f"{key} is in order", None if order == sorted(order) else f"{order}")
