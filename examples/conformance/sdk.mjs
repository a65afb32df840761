// CreateChatToken by the AWS SDK for JavaScript. Reads calls as lines of JSON and
// answers each with one.
//
// Usage: node sdk.mjs ENDPOINT

import { createInterface } from "node:readline";
import * as ivschat from "@aws-sdk/client-ivschat";

function client(call) {
  return new ivschat.IvschatClient({
    endpoint: process.argv[2],
    region: "us-west-2",
    credentials: { accessKeyId: call.keyID, secretAccessKey: call.secret },
    ...(call.unsigned && { signer: { sign: async (request) => request } }),
  });
}

async function outcome(call) {
  try {
    const reply = await client(call).send(new ivschat.CreateChatTokenCommand(call.request));
    return {
      token: reply.token,
      // The SDK made Dates of them, or they have no toISOString.
      tokenExpirationTime: reply.tokenExpirationTime.toISOString(),
      sessionExpirationTime: reply.sessionExpirationTime.toISOString(),
    };
  } catch (err) {
    const modelled = ivschat[err.name];
    return {
      error: err.name,
      typed: modelled !== undefined && err instanceof modelled,
      message: err.message,
      requestID: err.$metadata?.requestId,
      status: err.$metadata?.httpStatusCode,
      reason: err.reason,
      fieldList: err.fieldList,
      resourceId: err.resourceId,
      resourceType: err.resourceType,
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcome(JSON.parse(line))));
}
