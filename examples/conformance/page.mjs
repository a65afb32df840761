// People use the page, each in a browser of their own. Writes what they see as lines
// of JSON.
//
// Usage: node page.mjs STORY ENDPOINT CHROMIUM DIRECTORY
//
// DIRECTORY is for the screenshots.

import { join } from "node:path";
import { CreateChatTokenCommand, DeleteRoomCommand, IvschatClient, SendEventCommand, UpdateRoomCommand } from "@aws-sdk/client-ivschat";
import { chromium } from "playwright-core";

const room = "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6";
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

// A backend's view; credentials are in the environment.
const ivschat = new IvschatClient({ endpoint, region: "us-west-2" });

function report(step, data) {
  console.log(JSON.stringify({ step, ...data }));
}

const browser = await chromium.launch({ executablePath, args: flags, timeout: 60_000 });

// open opens the page in a browser of its own: no cookie, no storage is shared.
// Whatever the page complains of is reported, and so is any request elsewhere.
async function open(name, options) {
  const context = await browser.newContext({ viewport: { width: 390, height: 780 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  await page.clock.install(); // it runs as ever until somebody sets it forward
  page.sockets = 0;
  page.on("websocket", () => page.sockets++);
  page.on("pageerror", (err) => report("complaint", { name, text: String(err) }));
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    // When the server is gone, or refuses, the browser says so.
    if (story !== "chat" && message.text().startsWith("Failed to load resource")) return;
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

async function fillIn(page, { userId, displayName, moderator }) {
  await page.getByLabel("User ID").fill(userId);
  await page.getByLabel("Display name").fill(displayName);
  if (moderator) await page.getByLabel("I moderate").check();
  await page.getByRole("button", { name: "Join" }).click();
}

async function enter(page, who) {
  await fillIn(page, who);
  await state(page, `Connected as ${who.displayName}`);
}

// state waits for what the header says of the connection.
const state = (page, text) => page.locator("header").getByRole("status").filter({ hasText: text }).waitFor();

const composer = (page) => page.getByRole("textbox", { name: "Message", exact: true });
const sendButton = (page) => page.getByRole("button", { name: "Send" });
const item = (page, text) => page.getByRole("log").getByRole("listitem").filter({ hasText: text });
const alert = (page, text) => page.getByRole("alert").filter({ hasText: text }).waitFor();

async function say(page, text) {
  await composer(page).fill(text);
  await page.keyboard.press("Enter");
}

// described is the text that describes a field, as a screen reader has it.
const described = (field) => field.evaluate((e) => e.getAttribute("aria-describedby").split(" ")
  .map((id) => document.getElementById(id)).filter((d) => !d.hidden).map((d) => d.textContent).join(" "));

// message waits for a message and returns what is shown of it.
async function message(page, text) {
  const li = item(page, text);
  await li.waitFor();
  return {
    name: await li.locator(".name").textContent(),
    user: await li.locator(".user").textContent(),
    content: await li.locator(".content").textContent(),
    buttons: await li.getByRole("button").allTextContents(),
    images: await li.locator("img").count(),
    attributes: await li.locator(".attribute").allTextContents(),
  };
}

async function screenshot(page, name) {
  await page.screenshot({ path: join(directory, name) });
}

// clock is the number of seconds that the header shows.
async function clock(page) {
  const text = await page.getByRole("timer").textContent();
  return text.match(/\d[\d:]*/)[0].split(":").reduce((sum, part) => 60 * sum + Number(part), 0);
}

// overflow is how many pixels of the header are cut off.
const overflow = (page) => page.evaluate(() => {
  const parts = [document.documentElement, ...document.querySelectorAll("header *")];
  return Math.max(...parts.map((e) => Math.max(e.scrollWidth - e.clientWidth, e.getBoundingClientRect().right - innerWidth)));
});

// token is what the panel says of the token, by its terms.
const token = (page) => page.evaluate(() => Object.fromEntries(
  [...document.querySelectorAll("dt")].map((dt) => [dt.textContent, dt.nextElementSibling.textContent.trim()])));

// chat: two people talk, and one of them moderates.
async function chat() {
  const alice = await open("alice", { colorScheme: "light" });
  const mod = await open("mod", { colorScheme: "dark", viewport: { width: 1280, height: 780 } });
  await screenshot(alice, "join.png");

  await enter(alice, { userId: "alice-1", displayName: "Alice" });
  report("empty", {
    text: await alice.getByRole("log").innerText(),
    title: await alice.getByRole("heading", { level: 1 }).textContent(),
    overflow: await overflow(alice),
  });
  await enter(mod, { userId: "mod-1", displayName: '<b onclick="alert(1)">Mo</b>', moderator: true });
  const before = await clock(alice);

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
  report("too long", {
    text: await described(composer(alice)),
    kept: (await composer(alice).inputValue()).length,
    disabled: await sendButton(alice).isDisabled(),
  });
  await composer(alice).fill("");

  // By the keyboard alone. Escape is no.
  await item(mod, "cheap watches").getByRole("button", { name: "Delete the message from Alice" }).focus();
  await mod.keyboard.press("Enter");
  const dialog = mod.getByRole("dialog");
  await dialog.waitFor();
  await mod.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await message(alice, "cheap watches");
  await mod.keyboard.press("Enter");
  await mod.keyboard.type("spam");
  await mod.keyboard.press("Enter");
  for (const page of [alice, mod]) await item(page, "A moderator deleted this message: spam").waitFor();
  report("deleted", {
    alice: await alice.getByText("cheap watches").count(),
    mod: await item(mod, "cheap watches").count(),
    text: await mod.evaluate(() => document.activeElement.getAttribute("role")), // which has the focus
  });

  while ((await clock(alice)) === before) await alice.waitForTimeout(100);
  report("remaining", { before, after: await clock(alice) });

  await ivschat.send(new SendEventCommand({ roomIdentifier: room, eventName: "stage", attributes: { song: "3" } }));
  await item(alice, "Event stage song=3").waitFor();

  await mod.getByRole("button", { name: "Disconnect Alice" }).first().click();
  await dialog.getByLabel("Reason").fill("watches");
  await dialog.getByRole("button", { name: "Disconnect" }).click();
  await alert(alice, "A moderator disconnected you: watches");
  await item(mod, "A moderator disconnected alice-1: watches").waitFor();
  await state(alice, "Not in a room");
  report("disconnected", { form: await alice.getByRole("button", { name: "Join" }).isVisible() });
  await screenshot(alice, "disconnected.png");
}

// problems: what is wrong is said where it is, in plain words.
async function problems() {
  const alice = await open("alice", {});
  const user = alice.getByLabel("User ID"), name = alice.getByLabel("Display name"), rooms = alice.getByLabel("Room", { exact: true });
  await fillIn(alice, { userId: "", displayName: "" });
  report("nothing entered", { user: await described(user), name: await described(name) });
  await fillIn(alice, { userId: "u".repeat(129), displayName: "Alice" });
  report("long user", { user: await described(user), name: await described(name) });
  await fillIn(alice, { userId: "alice-1", displayName: "A".repeat(2000) });
  await alice.getByText("Use a shorter name").waitFor();
  report("long name", { user: await described(user), name: await described(name) });

  // The page knows a room that is deleted meanwhile, for a form and for a session.
  await enter(alice, { userId: "alice-1", displayName: "Alice" });
  await ivschat.send(new UpdateRoomCommand({ identifier: room, maximumMessageLength: 3 }));
  await say(alice, "four");
  await alert(alice, "The server didn't take this: Content must have 1 to 3 characters in this room.");
  await alice.getByText("remove 1 character.").waitFor();
  report("refused", { text: await described(composer(alice)), content: await composer(alice).inputValue() });
  await composer(alice).press("Backspace");
  report("typing", { alice: await alice.getByRole("alert").count(), disabled: await sendButton(alice).isDisabled() });
  await ivschat.send(new DeleteRoomCommand({ identifier: room }));
  await alert(alice, "The server ended the connection: room deleted.");
  await alice.getByRole("button", { name: "Join" }).click();
  await alice.getByText("There is no such room any more").waitFor();
  report("no room", { text: await described(rooms) });
}

// restart: the server goes away, and comes back, while somebody is connected. The
// second time it drains, as at the end of a session: ERROR 401.
async function restart() {
  const alice = await open("alice", {});
  await enter(alice, { userId: "alice-1", displayName: "Alice" });
  await composer(alice).fill("a draft");
  await alice.route("**/join", (route) => route.abort(), { times: 1 });
  await alice.getByText("What your token says").click();
  await alice.getByRole("button", { name: "Renew now" }).click();
  await alert(alice, "The session goes on as it was: Failed to fetch.");
  report("joined");
  await alice.getByText("Next attempt in").waitFor();
  await state(alice, "Reconnecting…");
  report("lost", { disabled: await sendButton(alice).isDisabled(), text: await described(sendButton(alice)), overflow: await overflow(alice) });
  // A wait that is long enough to be seen to tick.
  await alice.waitForFunction(() => /in ([3-9]|\d\d) s/.test(document.querySelector("[role=timer]").textContent));
  await alice.getByText(/Next attempt in [12] s/).waitFor();
  report("ticks");
  await state(alice, "Connected as Alice");
  await item(alice, "You are connected again").waitFor();
  report("again", { text: await composer(alice).inputValue(), disabled: await sendButton(alice).isDisabled(), alice: await alice.getByRole("alert").count() });
  await say(alice, "what was that?");
  report("back", await message(alice, "what was that?"));
  const { sockets } = alice;
  report("once more");
  await state(alice, "Reconnecting…");
  await state(alice, "Connected as Alice");
  report("drained", { sockets: alice.sockets - sockets });
}

// renewal: a session of a minute is renewed on the connection, by itself, and
// then because somebody asks.
async function renewal() {
  const alice = await open("alice", {});
  let first = true;
  await alice.route("**/join", async (route) => {
    if (route.request().method() !== "POST" || !first) return route.fallback();
    first = false;
    await route.fulfill({ json: await createChatToken() });
  });
  await enter(alice, { userId: "alice-1", displayName: "Alice" });
  await say(alice, "for a minute");
  await alice.getByText("What your token says").click();
  report("begun", { before: await clock(alice), ...(await message(alice, "for a minute")), token: await token(alice) });
  await alice.clock.fastForward(50_000);
  await alice.getByText("this is number 2").waitFor();
  report("renewed", { after: await clock(alice), sockets: alice.sockets, token: await token(alice) });
  await say(alice, "for longer");
  report("said", await message(alice, "for longer"));
  await alice.getByRole("button", { name: "Renew now" }).click();
  await alice.getByText("this is number 3").waitFor();
  report("asked", { sockets: alice.sockets, alice: await alice.getByRole("alert").count() });
}

// createChatToken asks for what /join does not give: a short session, and more
// attributes.
async function createChatToken() {
  const claims = {
    roomIdentifier: room,
    userId: "alice-1",
    capabilities: ["SEND_MESSAGE"],
    sessionDurationInMinutes: 1,
    attributes: { displayName: "Alice", badge: "gold" },
  };
  const { token, sessionExpirationTime } = await ivschat.send(new CreateChatTokenCommand(claims));
  return { token, sessionExpirationTime, claims };
}

await { chat, problems, restart, renewal }[story]();
await browser.close();
report("done");
