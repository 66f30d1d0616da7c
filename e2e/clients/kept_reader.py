"""Brings what the bucket `logs` or the stream `events` has of recordings to files: PORT s3|kinesis DIRECTORY.

Objects stay as they are, packed; the records of the stream become lines of one file, as a consumer prints them.
"""

import json
import sys
from pathlib import Path

import boto3

port, service, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3])
client = boto3.client(
    service,
    region_name="us-east-1",
    endpoint_url=f"http://127.0.0.1:{port}",
    aws_access_key_id="AKID",
    aws_secret_access_key="secret",
)


def s3():
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="logs", Prefix="mesh/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    wanted = [key for key in keys if "/kind=recording_frame/" in key]
    for number, key in enumerate(wanted):
        client.download_file("logs", key, str(directory / f"{number}.ndjson.zst"))
    return len(wanted)


def kinesis():
    lines = []
    for shard in client.list_shards(StreamName="events")["Shards"]:
        place = client.get_shard_iterator(
            StreamName="events", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while place:
            answer = client.get_records(ShardIterator=place, Limit=1000)
            if not answer["Records"]:
                break
            lines += [record["Data"] for record in answer["Records"]]
            place = answer.get("NextShardIterator")
    (directory / "events.ndjson").write_bytes(b"\n".join(lines))
    return len(lines)


count = {"s3": s3, "kinesis": kinesis}[service]()
print(json.dumps({"case": f"{count} of {service}", "problem": None if count else "there is nothing"}))
