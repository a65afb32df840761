// The page: one user in one room. Nothing that came from elsewhere is ever
// parsed as HTML: all of it goes through textContent.

import { Connection, Refused } from "./connection.js";

const maxEntries = 500; // lines that the log keeps
const maxUserID = 128; // code points

const $ = (id) => document.getElementById(id);
const log = $("log"); // what scrolls
const messages = $("messages");
const content = $("content");
const fields = $("join").elements;

let rooms = new Map(); // what GET /join says of each, by ID
let me = null; // what was asked for in the form
let connection = null;
let state = "ended"; // of the connection
let deadline = 0; // of the state: the session's end, or the next attempt
let sessions = 0; // so many tokens were presented

const show = (e, text) => {
  if (e.textContent !== text) e.textContent = text; // or it would be read out again
  e.hidden = text === "";
};
const count = (text) => [...text].length; // in code points, as the server does

// element makes an element that holds text, never markup.
function element(tag, className, text = "") {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function button(text, label, className, onclick) {
  const b = element("button", className, text);
  b.type = "button";
  b.setAttribute("aria-label", label);
  b.onclick = onclick;
  return b;
}

// -- The form.

async function listRooms() {
  try {
    const answer = await (await fetch("/join")).json();
    rooms = new Map(answer.rooms.map((room) => [room.id, room]));
    const chosen = fields.room.value;
    fields.room.replaceChildren(...answer.rooms.map(({ id, name }) => new Option(name || id, id)));
    if (rooms.has(chosen)) fields.room.value = chosen;
  } catch {
    showProblem("room", "The list of rooms can't be loaded. Is the server running? Reload the page to try again.");
  }
}

function showProblem(name, text) {
  show($(`${name}-problem`), text);
  fields[name].setAttribute("aria-invalid", text !== "");
}

// problems is what the page itself finds wrong with what was entered, by field.
function problems({ room, userId, displayName }) {
  const found = {};
  if (!room) found.room = "Choose a room.";
  if (!userId) found.userId = "Enter a user ID: any name that is yours alone in this room.";
  else if (count(userId) > maxUserID) found.userId = `Use at most ${maxUserID} characters. These are ${count(userId)}.`;
  if (!displayName) found.displayName = "Enter the name that others see.";
  return found;
}

// refusals is what the server found wrong, by field.
function refusals(refused) {
  const noRoom = { room: "There is no such room any more. Choose another one." };
  if (refused.type === "ResourceNotFoundException") return noRoom;
  const words = {
    roomIdentifier: noRoom,
    userId: { userId: `Use 1 to ${maxUserID} characters.` },
    attributes: { displayName: "This is too long. Use a shorter name." },
  };
  return Object.assign({}, ...refused.fields.map((field) => words[field]));
}

// showProblems shows them at their fields, and takes the focus to the first one.
function showProblems(found) {
  const names = ["room", "userId", "displayName"];
  for (const name of names) showProblem(name, found[name] ?? "");
  const first = names.find((name) => found[name]);
  if (first) fields[first].focus();
  return first !== undefined;
}

$("join").onsubmit = (event) => {
  event.preventDefault();
  const who = {
    room: fields.room.value,
    userId: fields.userId.value.trim(),
    displayName: fields.displayName.value.trim(),
    moderator: fields.moderator.checked,
  };
  show($("notice"), "");
  if (!showProblems(problems(who))) join(who);
};

// -- The state.

function join(who) {
  me = who;
  sessions = 0;
  messages.replaceChildren();
  following = true;
  $("empty").hidden = false;
  show($("problem"), "");
  showIn(true);
  connection = new Connection(who, { state: changed, message: showMessage, event: showEvent, error: showError });
}

const roomName = () => rooms.get(me.room)?.name || me.room;

// changed shows a state of the connection, all of it: nothing that an earlier one
// said remains.
function changed(name, data) {
  const before = state;
  state = name;
  deadline = data.until ?? data.ends ?? 0;
  const underWay = sessions ? "Reconnecting…" : "Connecting…";
  show($("state"), {
    connecting: underWay,
    waiting: underWay, // or each attempt would be read out
    open: `Connected as ${me.displayName}${me.moderator ? ", moderator" : ""}`,
    ended: "Not in a room",
  }[name]);
  $("state").dataset.state = name;
  $("retry").hidden = name !== "waiting";
  $("renew").disabled = name !== "open";
  if (before !== name) show($("problem"), "");
  if (name === "open") showToken(data, before);
  if (name === "ended") showEnd(data.why);
  showClock();
  showComposer();
}

function showToken({ token, claims }, before) {
  if (sessions > 0 && before !== "open") notice("You are connected again. What was said in between isn't shown.");
  sessions++;
  const asked = new TextEncoder().encode(JSON.stringify(claims)).length;
  $("token-room").textContent = claims.roomIdentifier;
  $("token-user").textContent = claims.userId;
  $("token-attributes").textContent = Object.entries(claims.attributes ?? {}).map((pair) => pair.join(": ")).join(", ");
  $("token-may").textContent = ["view", ...(claims.capabilities ?? [])].join(", ").toLowerCase().replaceAll("_", " ");
  $("token-length").textContent = `${token.length} characters, encrypted. In JSON, what it says takes ${asked}.`;
  $("token-sessions").textContent = sessions === 1 ? "this is the first" : `this is number ${sessions}`;
}

// showEnd goes back to the form, and says why there.
function showEnd(why) {
  showIn(false);
  if (!(why instanceof Refused)) return show($("notice"), why);
  if (showProblems(refusals(why))) listRooms(); // one may be gone
  else show($("notice"), "The server doesn't let you in.");
}

// showIn switches between the form and the room, and takes the focus along.
function showIn(inside) {
  $("join").hidden = inside;
  $("room").hidden = !inside;
  $("leave").hidden = !inside;
  show($("title"), inside ? `Room ${roomName()}` : "Chat");
  document.title = $("title").textContent;
  if ($("confirm").open) $("confirm").close();
  (inside ? content : fields.userId).focus();
}

// showClock shows how long the state lasts.
function showClock() {
  const left = Math.max(0, Math.ceil((deadline - Date.now()) / 1000));
  const [h, m, s] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  const pad = (n) => String(n).padStart(2, "0");
  const time = h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
  show($("clock"), { open: `Session: ${time} left`, waiting: `Next attempt in ${left} s` }[state] ?? "");
}

setInterval(showClock, 250);
$("leave").onclick = () => connection.end("");
$("retry").onclick = () => connection.retryNow();
$("renew").onclick = () => connection.renew().catch(({ message }) => {
  show($("problem"), `The session goes on as it was: ${message}.`);
});

// -- The log.

// The log stays at its end, whatever its size, unless somebody has scrolled up
// to read.
let following = true;

log.onscroll = () => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
};

function follow() {
  if (following) log.scrollTop = log.scrollHeight;
}

new ResizeObserver(follow).observe(log);

function append(li) {
  messages.append(li);
  $("empty").hidden = true;
  while (messages.childElementCount > maxEntries) messages.firstElementChild.remove();
  follow();
}

function notice(text) {
  append(element("li", "notice", text));
}

// about says who sent a message: what the sender's token says, not the sender.
function about(frame) {
  const { displayName, ...others } = frame.Sender.Attributes ?? {};
  const line = element("div", "about");
  line.append(element("bdi", "name", displayName || frame.Sender.UserId), element("bdi", "user", frame.Sender.UserId));
  for (const [key, value] of Object.entries(others)) {
    line.append(element("bdi", "attribute", `${key}: ${value}`));
  }
  const sent = element("time", "sent", new Date(frame.SendTime).toLocaleTimeString([], { timeStyle: "short" }));
  sent.dateTime = frame.SendTime;
  line.append(sent);
  return line;
}

function showMessage(frame) {
  const mine = frame.Sender.UserId === me.userId;
  const li = element("li", mine ? "message mine" : "message");
  li.dataset.id = frame.Id;
  const text = element("p", "content", frame.Content);
  text.dir = "auto";
  li.append(about(frame), text);
  if (me.moderator) li.append(tools(frame, mine));
  append(li);
}

function showEvent(frame) {
  const { MessageID, UserId, Reason } = frame.Attributes ?? {};
  const because = Reason ? `: ${Reason}` : "";
  switch (frame.EventName) {
    case "chattoken:RENEWED":
      return;
    case "aws:DELETE_MESSAGE":
      return showDeleted(MessageID, because);
    case "aws:DISCONNECT_USER":
      return notice(`A moderator disconnected ${UserId}${because}`);
  }
  const attributes = Object.entries(frame.Attributes ?? {}).map(([k, v]) => ` ${k}=${v}`);
  notice(`Event ${frame.EventName}${attributes.join("")}`);
}

function showDeleted(id, because) {
  const li = messages.querySelector(`[data-id="${CSS.escape(id)}"]`);
  if (!li) return;
  if (li.contains(document.activeElement)) log.focus();
  li.classList.add("deleted");
  li.querySelector(".content").textContent = `A moderator deleted this message${because}`;
  li.querySelector(".tools")?.remove();
}

// -- Moderation.

function tools(frame, mine) {
  const user = frame.Sender.UserId;
  const name = frame.Sender.Attributes?.displayName || user;
  const div = element("div", "tools");
  div.append(button("Delete", `Delete the message from ${name}`, "plain small", () => confirm({
    title: `Delete the message from ${name}?`,
    text: `“${frame.Content}”`,
    yes: "Delete",
    act: (reason) => act("DELETE_MESSAGE", { Id: frame.Id, ...reason }),
  })));
  if (!mine) {
    div.append(button("Disconnect", `Disconnect ${name}`, "plain small danger", () => confirm({
      title: `Disconnect ${name}?`,
      text: `This ends all connections of ${user} in this room, and the tokens that are not used yet.`,
      yes: "Disconnect",
      act: (reason) => act("DISCONNECT_USER", { UserId: user, ...reason }),
    })));
  }
  return div;
}

// confirm asks before something that can't be taken back. Escape is no.
function confirm({ title, text, yes, act }) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirmed").textContent = yes;
  $("reason").value = "";
  dialog.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    const reason = $("reason").value.trim();
    dialog.close();
    act(reason && { Reason: reason });
  };
  dialog.showModal();
}

$("cancel").onclick = () => $("confirm").close();

// act asks the server for something and shows why it would not.
async function act(action, members) {
  try {
    show($("problem"), "");
    return await connection.request(action, members);
  } catch (err) {
    showError(err);
    if (err.code === 400) await listRooms(); // the room may take less than it did
  }
}

function showError(err) {
  const words = {
    400: `The server didn't take this: ${err.message}.`,
    403: "Your token doesn't allow this.",
    429: "That was too much at once. Wait a moment, then try again.",
    500: "This was done here, but perhaps not on all servers yet.",
    503: "The server can't do this now. Try again in a moment.",
  };
  show($("problem"), words[err.code] ?? `${err.message}.`);
}

// -- The composer.

const limit = () => rooms.get(me?.room)?.maximumMessageLength ?? 500;

// showComposer says how long the message is, and why it can't be sent.
function showComposer() {
  const length = count(content.value.trim());
  const over = length - limit();
  $("count").textContent = `${length} / ${limit()}`;
  $("composer").classList.toggle("over", over > 0);
  content.setAttribute("aria-invalid", over > 0);
  $("send").disabled = state !== "open" || length === 0 || over > 0;
  let hint = "";
  if (over > 0) hint = `Too long to send: remove ${over} ${over === 1 ? "character" : "characters"}.`;
  else if (state !== "open") hint = "You can send when you are connected.";
  show($("hint"), hint);
}

async function send() {
  if ($("send").disabled) return;
  const text = content.value.trim();
  content.value = "";
  showComposer();
  const sent = await act("SEND_MESSAGE", { Content: text });
  if (!sent && content.value === "") content.value = text; // not to be typed again
  showComposer();
}

$("composer").onsubmit = (event) => {
  event.preventDefault();
  send();
};

content.oninput = () => {
  show($("problem"), "");
  showComposer();
};

content.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
};

listRooms();
