// Any number of clients of the chat SDK, each in one room. Reads what they are to
// do as lines of JSON, and writes what happens to them as lines of JSON.
//
// Usage: node messaging.mjs ENDPOINT

import { createInterface } from "node:readline";
import { CreateChatTokenCommand, DeleteRoomCommand, DisconnectUserCommand, IvschatClient } from "@aws-sdk/client-ivschat";
import { ChatRoom, DeleteMessageRequest, DisconnectUserRequest, SendMessageRequest } from "amazon-ivs-chat-messaging";
import { WebSocket } from "ws";

const endpoint = process.argv[2];
const rooms = new Map(); // by the client's name
const owners = new Map(); // clients, by the token
const sockets = new Map(); // the latest, by the client's name

// A WebSocket of Node's, which has its own from 22 on, or of ws, that can be
// used behind the SDK's back.
globalThis.WebSocket = class extends (globalThis.WebSocket ?? WebSocket) {
  constructor(url, token) {
    super(url, token);
    sockets.set(owners.get(token), this);
  }
};

const ivschat = new IvschatClient({ endpoint, region: "us-west-2" }); // credentials are in the environment

function report(client, event, data = {}) {
  console.log(JSON.stringify({ client, event, ...data }));
}

// provider does what an application's server does: it calls CreateChatToken, and
// passes on the token and the end of the session. Or it has a token already, and
// hands out that one again and again.
function provider({ client, request, token }) {
  return async () => {
    report(client, "tokenWanted");
    if (token) return { token };
    const reply = await ivschat.send(new CreateChatTokenCommand(request));
    report(client, "token", { token: reply.token });
    owners.set(reply.token, client);
    return { token: reply.token, sessionExpirationTime: reply.sessionExpirationTime };
  };
}

function connect(command) {
  const { client, url = endpoint } = command;
  const room = new ChatRoom({ regionOrUrl: url.replace("http", "ws"), tokenProvider: provider(command) });
  room.logLevel = "error";
  room.logger = { debug() {}, info() {}, error() {} };
  room.addListener("connecting", () => report(client, "connecting"));
  room.addListener("connect", () => report(client, "connect"));
  room.addListener("disconnect", (reason) => report(client, "disconnect", { reason }));
  for (const event of ["message", "messageDelete", "userDisconnect", "event"]) {
    room.addListener(event, (data) => report(client, event, { data }));
  }
  rooms.set(client, room);
  room.connect();
}

async function settle(client, request) {
  try {
    report(client, "resolved", { data: await request() });
  } catch (err) {
    report(client, "rejected", { code: err.errorCode, message: err.errorMessage ?? err.message });
  }
}

function obey(command) {
  const room = rooms.get(command.client);
  switch (command.op) {
    case "connect":
      return connect(command);
    case "send":
      return settle(command.client, () => room.sendMessage(new SendMessageRequest(command.content, command.attributes)));
    case "delete":
      return settle(command.client, () => room.deleteMessage(new DeleteMessageRequest(command.id, command.reason)));
    case "disconnectUser":
      return settle(command.client, () => room.disconnectUser(new DisconnectUserRequest(command.userId, command.reason)));
    case "backendDisconnects":
      return ivschat.send(new DisconnectUserCommand(command.input));
    case "backendDeletesRoom":
      return ivschat.send(new DeleteRoomCommand(command.input));
    case "raw": {
      const message = "x".repeat(command.length);
      for (let i = 0; i < (command.times ?? 1); i++) {
        sockets.get(command.client).send(command.binary ? Buffer.from(message) : message);
      }
      return;
    }
    case "leave":
      return room.disconnect();
  }
  throw new Error(`unknown op ${command.op}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  obey(JSON.parse(line));
}
process.exit(); // the rooms that are still open would keep it running
