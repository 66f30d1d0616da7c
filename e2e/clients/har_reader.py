"""Opens a HAR with haralyzer and prints what it finds, a JSON object for each entry."""

import json
import sys

from haralyzer import HarParser

parser = HarParser.from_file(sys.argv[1])
entries = [entry for page in parser.pages for entry in page.entries]
for entry in entries:
    print(json.dumps({
        "method": entry.request.method,
        "url": entry.request.url,
        "version": entry.request.httpVersion,
        "request_headers": len(entry.request.headers),
        "text": entry.request.get("postData", {}).get("text"),
        "status": entry.response.status,
        "mime": entry.response.mimeType,
        "content": entry.response.text,
        "started": entry.startTime.isoformat() if entry.startTime else None,
        "time": entry.time,
        "address": entry.get("serverIPAddress"),
    }))
