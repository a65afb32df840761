// People use the page, each in a browser of their own. Writes what they see as lines
// of JSON.
//
// Usage: node page.mjs STORY ENDPOINT CHROMIUM DIRECTORY
//
// DIRECTORY is for the screenshots.

import { join } from "node:path";
import { CreateChatTokenCommand, IvschatClient } from "@aws-sdk/client-ivschat";
import { chromium } from "playwright-core";

const [story, endpoint, executablePath, directory] = process.argv.slice(2);
const flags = [
  "--no-sandbox", // its sandbox does not run as root, nor in most containers
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function report(step, data) {
  console.log(JSON.stringify({ step, ...data }));
}

const browser = await chromium.launch({ executablePath, args: flags, timeout: 60_000 });

// open opens the page in a browser of its own: no cookie, no storage is shared.
// Whatever the page complains of is reported, and so is any request elsewhere.
async function open(name, options) {
  const context = await browser.newContext({ viewport: { width: 760, height: 620 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  page.on("pageerror", (err) => report("complaint", { name, text: String(err) }));
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    // When the server is gone, the browser says so.
    if (story === "restart" && message.text().includes("net::ERR_")) return;
    report("complaint", { name, text: message.text() });
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== endpoint && url.protocol !== "data:") report("complaint", { name, text: `request to ${url}` });
  });
  await page.goto(endpoint);
  return page;
}

async function enter(page, { userId, displayName, moderator }) {
  await page.getByLabel("User ID").fill(userId);
  await page.getByLabel("Display name").fill(displayName);
  if (moderator) await page.getByLabel("I moderate").check();
  await page.getByRole("button", { name: "Join" }).click();
  await page.getByText(`Connected as ${displayName}`).waitFor();
}

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

// message waits for a message and returns what is shown of it.
async function message(page, text) {
  const item = page.getByRole("listitem").filter({ hasText: text });
  await item.waitFor();
  return {
    name: await item.locator(".name").textContent(),
    user: await item.locator(".user").textContent(),
    content: await item.locator(".content").textContent(),
    buttons: await item.getByRole("button").allTextContents(),
    images: await item.locator("img").count(),
    attributes: await item.locator(".attribute").allTextContents(),
  };
}

async function screenshot(page, name) {
  await page.screenshot({ path: join(directory, name) });
}

// seconds that remain, as the page shows it.
async function remaining(page) {
  const text = await page.getByRole("timer").textContent();
  return text.split(":").reduce((sum, part) => 60 * sum + Number(part), 0);
}

// chat: two people talk, and one of them moderates.
async function chat() {
  const alice = await open("alice", { colorScheme: "light" });
  const mod = await open("mod", { colorScheme: "dark" });
  await screenshot(alice, "join.png");

  await enter(alice, { userId: "alice-1", displayName: "Alice" });
  await enter(mod, { userId: "mod-1", displayName: '<b onclick="alert(1)">Mo</b>', moderator: true });
  const before = await remaining(alice);

  await say(alice, "Hello, is anybody here?");
  report("alice to mod", await message(mod, "is anybody here?"));
  report("alice to alice", await message(alice, "is anybody here?"));

  await say(mod, "<img src=x onerror=alert(1)> welcome, שלום");
  report("mod to alice", await message(alice, "welcome"));
  await say(alice, "buy cheap watches");
  await message(mod, "cheap watches");
  await screenshot(alice, "light.png");
  await screenshot(mod, "dark.png");

  // What is too long is not sent, and can still be made shorter.
  await say(alice, "\u{1F600}".repeat(501));
  const input = alice.getByLabel("Message", { exact: true });
  report("too long", { left: await alice.locator("#count").textContent(), kept: (await input.inputValue()).length });
  await input.fill("");

  await mod.getByRole("listitem").filter({ hasText: "cheap watches" }).getByRole("button", { name: "Delete" }).click();
  for (const page of [alice, mod]) await page.getByText("deleted by a moderator").waitFor();
  report("deleted", { alice: await alice.getByText("cheap watches").count(), mod: await mod.getByText("cheap watches").count() });

  while ((await remaining(alice)) === before) await alice.waitForTimeout(100);
  report("remaining", { before, after: await remaining(alice) });

  await mod.getByRole("button", { name: "Disconnect Alice" }).first().click();
  await alice.getByText("A moderator has disconnected you.").waitFor();
  await mod.getByText("alice-1 was disconnected").waitFor();
  report("disconnected", { form: await alice.getByRole("button", { name: "Join" }).isVisible() });
  await screenshot(alice, "disconnected.png");
}

// restart: the server goes away, and comes back, while somebody is connected.
async function restart() {
  const alice = await open("alice", {});
  await enter(alice, { userId: "alice-1", displayName: "Alice" });
  report("joined");
  await alice.getByText("Not connected, next attempt").waitFor();
  report("lost");
  await alice.getByText("Connected as Alice").waitFor();
  await say(alice, "what was that?");
  report("back", await message(alice, "what was that?"));
}

// sessionEnd: a session of a minute ends, and another one follows by itself.
async function sessionEnd() {
  const alice = await open("alice", {});
  const begun = Date.now();
  await alice.route("**/join", async (route) => route.fulfill({ json: await createChatToken() }), { times: 1 });
  await enter(alice, { userId: "alice-1", displayName: "Alice" });
  await say(alice, "for a minute");
  report("begun", { before: await remaining(alice), ...(await message(alice, "for a minute")) });
  await alice.waitForResponse("**/join", { timeout: 120_000 });
  await alice.getByText("Connected as Alice").waitFor();
  report("renewed", { lasted: Date.now() - begun, after: await remaining(alice) });
  await say(alice, "for longer");
  report("said", await message(alice, "for longer"));
}

// createChatToken asks for what /join does not give: a short session, and more
// attributes.
async function createChatToken() {
  const ivschat = new IvschatClient({ endpoint, region: "us-west-2" });
  const { token, sessionExpirationTime } = await ivschat.send(new CreateChatTokenCommand({
    roomIdentifier: "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6",
    userId: "alice-1",
    capabilities: ["SEND_MESSAGE"],
    sessionDurationInMinutes: 1,
    attributes: { displayName: "Alice", badge: "gold" },
  }));
  return { token, sessionExpirationTime };
}

await { chat, restart, sessionEnd }[story]();
await browser.close();
report("done");
