"""Requests signed by botocore, as they arrive at a server, for TestBotocore.

It signs what botocore otherwise leaves alone, too, as other programs do.
"""

import json

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

auth.SIGNED_HEADERS_BLACKLIST = []
HOST = "chat.example.com:8080"
BODY = '{"roomIdentifier":"arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6","userId":"ann"}'


def sign(name, target="/CreateChatToken", headers=(), method="POST", body=BODY):
    request = AWSRequest(method, f"http://{HOST}{target}", data=body.encode())
    for header in headers:
        request.headers.add_header(*header)
    request.context["timestamp"] = "20260714T120000Z"
    signer = auth.SigV4Auth(Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), "ivschat", "us-west-2")
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    sent = [("Host", HOST), ("Content-Length", len(body.encode()))]
    sent = [(n, v) for n, v in sent if n not in request.headers] + request.headers.items()
    head = "".join(f"{n}: {v}\r\n" for n, v in sent)
    print(json.dumps({"name": name, "request": f"{method} {target} HTTP/1.1\r\n{head}\r\n{body}"}))


sign("plain")
sign("content type", headers=[("Content-Type", "application/x-amz-json-1.1")])
sign("what SDKs do not sign", headers=[
    ("User-Agent", "aws-cli/2"), ("Expect", "100-continue"), ("X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793")])
sign("what proxies add", headers=[("X-Amz-Cf-Id", "x=="), ("Via", "1.1 a, 1.1 b"), ("X-Forwarded-For", "192.0.2.1")])
sign("case of names", headers=[("X-LOUD", "LOUD"), ("x-quiet", "quiet")])
sign("spaces", headers=[("X-Spaces", '  a   "b   c"  ')])
sign("list", headers=[("X-List", "b, a"), ("X-List", "  a  c "), ("X-List", "")])
sign("length", headers=[("Content-Length", str(len(BODY)))])
sign("empty header", headers=[("X-Empty", "")])
sign("host", headers=[("Host", HOST)])
sign("text of another language", headers=[("X-Text", "Zo\u00eb")], body='{"userId":"\u540d\u524d \U0001f600"}')
sign("no body", body="")
sign("other method", method="DELETE", target="/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A1%3Aroom%2Fx?tagKeys=b&tagKeys=a", body="")
sign("escapes in the path", target="/a%20b/%C3%A9%2F~(x)!*'")
sign("root", target="/")
sign("query", target="/?b=2&a=1&a=0&empty&A=3&a-=4&x%2Fy=%3D%20%2B")
sign("query, order of escapes", target="/?k=a-b&k=a%2Fb")
