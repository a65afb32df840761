// Chat by the AWS SDK for JavaScript and the chat SDK.
//
// Endpoint, region and credentials are in the environment. Node before 22 has no
// WebSocket of its own.

import { CreateChatTokenCommand, IvschatClient } from "@aws-sdk/client-ivschat";
import { ChatRoom, SendMessageRequest } from "amazon-ivs-chat-messaging";
import { WebSocket } from "ws";

globalThis.WebSocket ??= WebSocket;
const [roomIdentifier] = process.argv.slice(2);

// The application's server.
const api = new IvschatClient();
async function admit(userId) {
  const minted = await api.send(
    new CreateChatTokenCommand({ roomIdentifier, userId, capabilities: ["SEND_MESSAGE"] }),
  );
  // Without tokenExpirationTime, of which the client makes reconnections.
  return { token: minted.token, sessionExpirationTime: minted.sessionExpirationTime };
}

// The user's client. In place of a region it takes an address.
const room = new ChatRoom({
  regionOrUrl: process.env.AWS_ENDPOINT_URL_IVSCHAT.replace("http", "ws"),
  tokenProvider: () => admit("ann"),
});
room.logLevel = "error";
room.addListener("connect", () => room.sendMessage(new SendMessageRequest("hello")));
room.addListener("message", (message) => {
  console.log(message.sender.userId, message.content);
  room.disconnect();
});
room.connect();
