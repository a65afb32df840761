// The page of the example: one user in one room. Nothing that came from
// elsewhere is ever parsed as HTML: all of it goes through textContent.

const maxContent = 500; // code points in a message, as the gateway has it
const maxEntries = 500; // lines that the log keeps
const shortestWait = 500; // ms
const longestWait = 30_000;
const steady = 10_000; // ms that a connection lasts before its failures are forgotten

// -- The connection.

// Refused is an answer that asking again will not change.
class Refused extends Error {}

// fetchToken asks the application's server for a token, and returns it with the
// moment at which its session ends, on this machine's clock. A network that
// fails and a server in trouble are plain errors.
async function fetchToken(who) {
  const response = await fetch("/join", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(who),
  });
  if (!response.ok) {
    const { message } = await response.json().catch(() => ({}));
    const text = message || `${response.status} ${response.statusText}`;
    throw response.status < 500 && response.status !== 429 ? new Refused(text) : new Error(text);
  }
  const answer = await response.json();
  // By the server's own clock: this one may be wrong, and the countdown with it.
  const now = Date.parse(response.headers.get("Date")) || Date.now();
  return { token: answer.token, ends: Date.now() + Date.parse(answer.sessionExpirationTime) - now };
}

// A Connection keeps a user in a room. A token opens one WebSocket, so every
// attempt fetches its own, whatever has become of the one before.
//
// A browser does not show why an upgrade was refused: 401, 403, 503 and a server
// that is gone all look the same. So all are retried, with backoff. What is
// final comes from /join, or as a DISCONNECT_USER event.
class Connection {
  #who;
  #on;
  #socket = null;
  #pending = new Map(); // what waits for an answer, by request ID
  #failures = 0;
  #openedAt = 0;
  #timer;
  #ended = false;

  // on has the functions connecting(), waiting(ms), open(ends), message(frame),
  // event(frame), error(text) and end(why).
  constructor(who, on) {
    this.#who = who;
    this.#on = on;
    this.#attempt();
  }

  // request sends an action. The promise is settled by the gateway's answer.
  request(action, fields) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Error("Not connected."));
    }
    const id = randomID();
    this.#socket.send(JSON.stringify({ Action: action, RequestId: id, ...fields }));
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  end(why) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
    this.#abandon();
    this.#on.end(why);
  }

  async #attempt() {
    this.#on.connecting();
    try {
      const { token, ends } = await fetchToken(this.#who);
      if (!this.#ended) this.#open(token, ends);
    } catch (err) {
      if (err instanceof Refused) this.end(err.message);
      else this.#retry();
    }
  }

  #open(token, ends) {
    const url = new URL("/", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, token);
    socket.onopen = () => {
      this.#openedAt = performance.now();
      this.#on.open(ends);
    };
    socket.onmessage = ({ data }) => {
      if (!this.#ended) this.#receive(JSON.parse(data));
    };
    socket.onclose = () => this.#closed();
    this.#socket = socket;
  }

  #closed() {
    const lasted = this.#openedAt ? performance.now() - this.#openedAt : 0;
    this.#openedAt = 0;
    if (lasted > steady) this.#failures = 0;
    this.#abandon();
    this.#retry();
  }

  // Doubling, with a random half: the clients of a server that went away must not
  // all come back at once.
  #retry() {
    if (this.#ended) return;
    const wait = Math.min(longestWait, shortestWait * 2 ** this.#failures++) * (1 + Math.random()) / 2;
    this.#on.waiting(wait);
    this.#timer = setTimeout(() => this.#attempt(), wait);
  }

  #abandon() {
    for (const { reject } of this.#pending.values()) {
      reject(new Error("The connection was lost before an answer came."));
    }
    this.#pending.clear();
  }

  #receive(frame) {
    switch (frame.Type) {
      case "MESSAGE":
        this.#on.message(frame);
        this.#settle(frame.RequestId, "resolve", frame);
        break;
      case "EVENT":
        this.#on.event(frame);
        this.#settle(frame.RequestId, "resolve", frame);
        if (frame.EventName === "aws:DISCONNECT_USER" && frame.Attributes.UserId === this.#who.userId) {
          this.end("A moderator has disconnected you.");
        }
        break;
      case "ERROR":
        this.#failed(frame);
    }
  }

  #failed(frame) {
    const err = new Error(frame.ErrorMessage);
    if (!this.#settle(frame.RequestId, "reject", err) && frame.ErrorCode !== 401) {
      this.#on.error(frame.ErrorMessage);
    }
    // The session is over: another one begins with another token.
    if (frame.ErrorCode === 401) this.#socket.close(1000);
  }

  #settle(id, how, value) {
    const waiting = this.#pending.get(id);
    this.#pending.delete(id);
    waiting?.[how](value);
    return waiting !== undefined;
  }
}

// randomID is unlike the ID of any other request, whoever made it. (randomUUID
// needs HTTPS, this does not.)
function randomID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// -- The page.

const $ = (id) => document.getElementById(id);
const log = $("log"); // what scrolls
const messages = $("messages");
const content = $("content");

let me = null; // what was asked for in the form
let connection = null;
let sessionEnds = 0;

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

// append adds a line to the log. Who has scrolled up to read is left there.
function append(li) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  messages.append(li);
  while (messages.childElementCount > maxEntries) messages.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function notice(text) {
  append(element("li", "notice", text));
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = text === "";
}

function showState(text, open = false) {
  $("state").textContent = text;
  $("state").classList.toggle("open", open);
  $("remaining").hidden = !open;
  $("composer").querySelector("button").disabled = !open;
}

function showClock() {
  const left = Math.max(0, Math.round((sessionEnds - Date.now()) / 1000));
  const [h, m, s] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  const pad = (n) => String(n).padStart(2, "0");
  $("clock").textContent = h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
  $("clock").dateTime = `PT${left}S`;
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

function tools(frame, mine) {
  const user = frame.Sender.UserId;
  const name = frame.Sender.Attributes?.displayName || user;
  const div = element("div", "tools");
  div.append(button("Delete", `Delete the message from ${name}`, "", () => act("DELETE_MESSAGE", { Id: frame.Id })));
  if (!mine) {
    div.append(button("Disconnect", `Disconnect ${name}`, "danger", () => act("DISCONNECT_USER", { UserId: user })));
  }
  return div;
}

function showEvent(frame) {
  const { MessageID, UserId, Reason } = frame.Attributes ?? {};
  const because = Reason ? `: ${Reason}` : "";
  switch (frame.EventName) {
    case "aws:DELETE_MESSAGE":
      return showDeleted(MessageID, because);
    case "aws:DISCONNECT_USER":
      return notice(`${UserId} was disconnected by a moderator${because}`);
  }
}

function showDeleted(id, because) {
  const li = messages.querySelector(`[data-id="${CSS.escape(id)}"]`);
  if (!li) return;
  li.classList.add("deleted");
  li.querySelector(".content").textContent = `deleted by a moderator${because}`;
  li.querySelector(".tools")?.remove();
}

// act asks the gateway for something and shows why it would not.
async function act(action, fields) {
  try {
    showError("");
    return await connection.request(action, fields);
  } catch (err) {
    showError(err.message);
  }
}

async function send() {
  const text = content.value.trim();
  if (text === "" || [...text].length > maxContent) return;
  content.value = "";
  showCount();
  const sent = await act("SEND_MESSAGE", { Content: text });
  if (!sent && content.value === "") content.value = text; // not to be typed again
  showCount();
}

function showCount() {
  const left = maxContent - [...content.value.trim()].length;
  $("count").textContent = String(left);
  $("count").classList.toggle("over", left < 0);
}

function join(who) {
  me = who;
  showError("");
  messages.replaceChildren();
  showIn(true);
  connection = new Connection(who, {
    connecting: () => showState("Connecting…"),
    waiting: (ms) => showState(`Not connected, next attempt in ${Math.ceil(ms / 1000)} s`),
    open: (ends) => {
      sessionEnds = ends;
      showClock();
      showState(`Connected as ${who.displayName}${who.moderator ? ", moderator" : ""}`, true);
    },
    message: showMessage,
    event: showEvent,
    error: showError,
    end: (why) => {
      showState("Not connected");
      showIn(false);
      showError(why);
    },
  });
}

// showIn switches between the form and the room, and takes the focus along.
function showIn(inside) {
  $("join").hidden = inside;
  $("room").hidden = !inside;
  $("leave").hidden = !inside;
  (inside ? content : $("join").elements.userId).focus();
}

$("join").onsubmit = (event) => {
  event.preventDefault();
  const { room, userId, displayName, moderator } = event.target.elements;
  join({ room: room.value, userId: userId.value, displayName: displayName.value, moderator: moderator.checked });
};

$("composer").onsubmit = (event) => {
  event.preventDefault();
  send();
};

content.oninput = showCount;
content.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
};

$("leave").onclick = () => connection.end("");
setInterval(showClock, 1000);
