// Calls by the AWS SDK for JavaScript. Says who it is, reads calls as lines of
// JSON and answers each with one.
//
// Usage: node sdk.mjs ENDPOINT

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import * as ivschat from "@aws-sdk/client-ivschat";

function client(call) {
  return new ivschat.IvschatClient({
    endpoint: process.argv[2],
    region: "us-west-2",
    maxAttempts: call.clockOffset ? 2 : 1,
    ...(call.clockOffset && { systemClockOffset: call.clockOffset }),
    credentials: {
      accessKeyId: call.keyID,
      secretAccessKey: call.secret,
      ...(call.sessionToken && { sessionToken: call.sessionToken }),
    },
    ...(call.unsigned && { signer: { sign: async (request) => request } }),
  });
}

async function outcome(call) {
  try {
    const command = new ivschat[`${call.operation}Command`](call.request);
    const { $metadata, ...reply } = await client(call).send(command);
    return { requestID: $metadata.requestId, reply };
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
      limit: err.limit,
    };
  }
}

const file = new URL("node_modules/@aws-sdk/client-ivschat/package.json", import.meta.url);
const { name, version } = JSON.parse(readFileSync(file));
console.log(JSON.stringify(`${name} ${version}, Node ${process.version}`));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcome(JSON.parse(line))));
}
