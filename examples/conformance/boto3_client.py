"""CreateChatToken by boto3. Reads calls as lines of JSON, answers each with one.

Usage: boto3_client.py ENDPOINT
"""

import json
import sys

import boto3
from botocore import UNSIGNED
from botocore.client import Config
from botocore.exceptions import ClientError, ParamValidationError


def client(endpoint, call):
    return boto3.client(
        "ivschat",
        endpoint_url=endpoint,
        region_name="us-west-2",
        aws_access_key_id=call["keyID"],
        aws_secret_access_key=call["secret"],
        config=Config(signature_version=UNSIGNED) if call["unsigned"] else None,
    )


def outcome(chat, request):
    try:
        reply = chat.create_chat_token(**request)
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
        }
    return {
        "token": reply["token"],
        # boto3 made datetimes of them, or would have failed.
        "tokenExpirationTime": reply["tokenExpirationTime"].isoformat(),
        "sessionExpirationTime": reply["sessionExpirationTime"].isoformat(),
    }


for line in sys.stdin:
    call = json.loads(line)
    print(json.dumps(outcome(client(sys.argv[1], call), call["request"])), flush=True)
