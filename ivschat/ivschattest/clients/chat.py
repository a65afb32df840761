"""A user is let in and sent away, by boto3.

Region and credentials are in the environment. boto3 before 1.28 has to be told
the endpoint.
"""

import os
import sys

import boto3

room = sys.argv[1]
chat = boto3.client("ivschat", endpoint_url=os.environ["AWS_ENDPOINT_URL_IVSCHAT"])
minted = chat.create_chat_token(
    roomIdentifier=room,
    userId="ann",
    capabilities=["SEND_MESSAGE"],
    attributes={"displayName": "Ann"},
)
print(minted["token"])
chat.disconnect_user(roomIdentifier=room, userId="ann", reason="good night")
