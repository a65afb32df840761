"""Calls by boto3. Says who it is, reads calls as lines of JSON, answers each with one.

Usage: boto3_client.py ENDPOINT
"""

import json
import platform
import sys

import boto3
import botocore
from botocore import UNSIGNED, xform_name
from botocore.client import Config
from botocore.exceptions import ClientError, ParamValidationError


def client(endpoint, call):
    return boto3.client(
        "ivschat",
        endpoint_url=endpoint,
        region_name="us-west-2",
        aws_access_key_id=call["keyID"],
        aws_secret_access_key=call["secret"],
        aws_session_token=call["sessionToken"] or None,
        config=Config(
            retries={"total_max_attempts": 1},
            signature_version=UNSIGNED if call["unsigned"] else None,
        ),
    )


def outcome(chat, call):
    try:
        reply = getattr(chat, xform_name(call["operation"]))(**call["request"])
    except ParamValidationError:
        return {"error": "ParamValidationError"}
    except ClientError as e:
        code = e.response["Error"]["Code"]
        modelled = getattr(chat.exceptions, code, None)
        return {
            "error": code,
            "typed": modelled is not None and type(e) is modelled,
            "message": e.response["Error"]["Message"],
            "requestID": e.response["ResponseMetadata"].get("RequestId"),
            "status": e.response["ResponseMetadata"]["HTTPStatusCode"],
            "reason": e.response.get("reason"),
            "fieldList": e.response.get("fieldList"),
            "resourceId": e.response.get("resourceId"),
            "resourceType": e.response.get("resourceType"),
            "limit": e.response.get("limit"),
        }
    return {"requestID": reply.pop("ResponseMetadata").get("RequestId"), "reply": reply}


print(json.dumps(f"boto3 {boto3.__version__}, botocore {botocore.__version__}, Python {platform.python_version()}"), flush=True)
clients = {}
for line in sys.stdin:
    call = json.loads(line)
    who = json.dumps([call[k] for k in ("keyID", "secret", "sessionToken", "unsigned")])
    if who not in clients:
        clients[who] = client(sys.argv[1], call)
    # boto3 made datetimes of times.
    print(json.dumps(outcome(clients[who], call), default=lambda time: time.isoformat()), flush=True)
