"""S3 and Kinesis by moto, with the bucket `logs` and the stream `events`. Says its port in the first line."""

import logging
import threading

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
port = server.get_host_and_port()[1]


def client(service):
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
    )


client("s3").create_bucket(Bucket="logs")
client("kinesis").create_stream(StreamName="events", ShardCount=2)
print(port, flush=True)
threading.Event().wait()
