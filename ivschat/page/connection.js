// How a page stays in a room: connecting, connecting again, and renewing the
// session on the live connection. Nothing here touches the page.

const shortestWait = 500; // ms
const longestWait = 30_000;
const steady = 10_000; // ms that a connection lasts before its failures are forgotten

// lead is how long before the end of a session it is renewed, at most. A short
// session is renewed when three quarters of it are over.
const lead = 120_000; // ms

// Closes that another token does not help against: of a revocation, and of
// frames that the server does not take.
const final = new Set([1002, 1003, 1008, 1009]);

// Refused is an answer that asking again will not change: the service's name for
// it, and the fields that it is about.
export class Refused extends Error {
  constructor(type, { message = "", fieldList = [] }) {
    super(message);
    this.type = type;
    this.fields = fieldList.map(({ name }) => name);
  }
}

// RequestError is the server's answer to a message, with the code of its frame.
export class RequestError extends Error {
  constructor({ ErrorCode, ErrorMessage }) {
    super(ErrorMessage);
    this.code = ErrorCode;
  }
}

// fetchToken asks the application's server for a token, and returns it with what
// it says and the moment at which its session ends, on this machine's clock. A
// network that fails and a server in trouble are plain errors.
async function fetchToken(who) {
  const response = await fetch("/join", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(who),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const again = response.status >= 500 || response.status === 429;
    throw again ? new Error(`the server answers ${response.status}`) : new Refused(response.headers.get("x-amzn-ErrorType"), answer);
  }
  // By the server's own clock: this one may be wrong, and the countdown with it.
  const now = Date.parse(response.headers.get("Date")) || Date.now();
  const ends = Date.now() + Date.parse(answer.sessionExpirationTime) - now;
  return { token: answer.token, claims: answer.claims, ends };
}

// A Connection keeps a user in a room. A token opens one WebSocket, so every
// attempt fetches its own, whatever has become of the one before.
//
// A browser does not show why an upgrade was refused: 401, 403, 503 and a server
// that is gone all look the same. So all are retried, with backoff. What is final
// comes from /join, as a DISCONNECT_USER event, or with the close frame.
export class Connection {
  #who;
  #on;
  #socket = null;
  #pending = new Map(); // what waits for an answer, by request ID
  #failures = 0;
  #openedAt = 0;
  #attempts; // timers
  #renewals;
  #ended = false;

  // on has the functions state(name, data), message(frame), event(frame) and
  // error(err). The states are "connecting"; "waiting" with { until }; "open"
  // with the grant of fetchToken, again after each renewal; and "ended" with
  // { why }, which is "", words of the server, or an error.
  constructor(who, on) {
    this.#who = who;
    this.#on = on;
    this.#attempt();
  }

  // request sends an action. The promise is settled by the server's answer.
  request(action, fields) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Error("You aren't connected"));
    }
    const id = randomID();
    this.#socket.send(JSON.stringify({ Action: action, RequestId: id, ...fields }));
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  // renew has the session of another token take the place of this one's.
  async renew() {
    const socket = this.#socket;
    clearTimeout(this.#renewals);
    let grant;
    try {
      grant = await fetchToken(this.#who);
      await this.request("chattoken:RENEW", { Token: grant.token });
    } catch (err) {
      // Until the session is over, and a new connection begins.
      if (socket === this.#socket) this.#renewBefore(this.#sessionEnds);
      throw err;
    }
    if (socket === this.#socket) this.#granted(grant);
  }

  retryNow() {
    clearTimeout(this.#attempts);
    this.#attempt();
  }

  end(why) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#attempts);
    this.#drop();
    this.#on.state("ended", { why });
  }

  #sessionEnds = 0;

  #granted(grant) {
    this.#sessionEnds = grant.ends;
    this.#renewBefore(grant.ends);
    this.#on.state("open", grant);
  }

  #renewBefore(ends) {
    const left = ends - Date.now();
    if (left < 2000) return;
    this.#renewals = setTimeout(() => this.renew().catch(() => {}), left - Math.min(lead, left / 4));
  }

  async #attempt() {
    this.#on.state("connecting", {});
    try {
      const grant = await fetchToken(this.#who);
      if (!this.#ended) this.#open(grant);
    } catch (err) {
      if (err instanceof Refused) this.end(err);
      else this.#retry();
    }
  }

  #open(grant) {
    const url = new URL("/", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, grant.token);
    socket.onopen = () => {
      this.#openedAt = performance.now();
      this.#granted(grant);
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      if (final.has(code)) this.end(`The server ended the connection${reason ? `: ${reason}` : ""}.`);
      else this.#again();
    };
    this.#socket = socket;
  }

  // again leaves this connection for another one.
  #again() {
    const lasted = this.#openedAt ? performance.now() - this.#openedAt : 0;
    this.#openedAt = 0;
    if (lasted > steady) this.#failures = 0;
    this.#drop();
    this.#retry();
  }

  // Doubling, with a random half: the clients of a server that went away must not
  // all come back at once.
  #retry() {
    if (this.#ended) return;
    const wait = Math.min(longestWait, shortestWait * 2 ** this.#failures++) * (1 + Math.random()) / 2;
    this.#on.state("waiting", { until: Date.now() + wait });
    this.#attempts = setTimeout(() => this.#attempt(), wait);
  }

  // drop closes the connection, of which nothing more is heard.
  #drop() {
    clearTimeout(this.#renewals);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
    for (const { reject } of this.#pending.values()) {
      reject(new Error("The connection broke off before an answer came, so it may have been done or not"));
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
          const { Reason } = frame.Attributes;
          this.end(`A moderator disconnected you${Reason ? `: ${Reason}` : "."}`);
        }
        break;
      case "ERROR":
        this.#failed(frame);
    }
  }

  #failed(frame) {
    const err = new RequestError(frame);
    if (this.#settle(frame.RequestId, "reject", err)) return;
    // The session is over: another one begins with another token.
    if (frame.ErrorCode === 401) this.#again();
    else this.#on.error(err);
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
