"""A web server and an object store on this machine, each a process of its own."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

SECRET = "kept-secret-9f3a"


@contextmanager
def process(*command, **options):
    """Run a server until the context ends."""
    started = subprocess.Popen([sys.executable, *map(str, command)], text=True, **options)
    try:
        yield started
    finally:
        started.terminate()
        started.wait()
        for stream in (started.stdout, started.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def web(tmp_path_factory):
    """Serve a folder: ``(folder, "127.0.0.1:port")``."""
    folder = tmp_path_factory.mktemp("web")
    script = Path(__file__).with_name("http_server.py")
    with process(script, folder, stdout=subprocess.PIPE) as server:
        yield folder, f"127.0.0.1:{int(server.stdout.readline())}"


class Store:
    """An S3 server with one bucket."""

    def __init__(self, address, bucket):
        self.bucket = bucket
        self._client = boto3.client("s3", endpoint_url=f"http://{address}")
        self._client.create_bucket(Bucket=bucket)

    def put(self, key, data):
        self._client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key):
        return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def remove_bucket(self):
        self._client.delete_bucket(Bucket=self.bucket)

    def keys(self):
        return sorted(entry["Key"] for entry in self._client.list_objects_v2(Bucket=self.bucket).get("Contents", []))


@pytest.fixture(scope="module")
def store_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ("-m", "moto.server", "-H", "127.0.0.1", "-p", port)
    with process(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        else:
            pytest.fail("the object store did not start")
        yield f"127.0.0.1:{port}"


@pytest.fixture
def store(store_address, monkeypatch, request):
    """An empty bucket, and the variables that lead GDAL to it."""
    settings = {
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_S3_ENDPOINT": store_address,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    # GDAL remembers what it saw under a name: each test has a bucket of its own
    return Store(store_address, f"bucket-{abs(hash(request.node.nodeid)):x}")
