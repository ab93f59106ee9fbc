// The service behind the page: requests with the chosen key, answers as they come, problems as sentences.

const SOON = "Try again in a moment.";
const NEXT = {
  "as-many-as-may-be": "Delete one first.",
  "database-away": SOON,
  "internal": "The terminal of course serve says what it was.",
  "invalid": "Change it and send it again.",
  "model-busy": SOON,
  "model-failed": "Ask again.",
  "model-silent": "Ask again.",
  "no-connection-free": SOON,
  "no-valid-key": "Choose another user.",
  "not-found": "Choose again: it may have been deleted.",
  "quota-used-up": "Choose another user, who has tokens of their own.",
  "stopping": "Start course serve again, and open the address that it prints.",
  "too-large": "Send less of it.",
  "too-many-at-once": "Wait for what is under way, and try again.",
  "too-many-a-minute": "Wait a moment, and try again.",
  "too-much-waits": "Wait until some of it is read, and send it again.",
  "too-slow": "Look at your connection, and send it again.",
  "try-again": SOON,
  "wrong-media-type": "Send Markdown, plain text, HTML or PDF.",
};

let key = "";

export function use(chosen) {
  key = chosen;
}

/** What went wrong in a sentence, and what to do about it. */
export class Problem extends Error {
  constructor(sentence, next) {
    super(sentence);
    this.next = next;
  }

  static of(document) {
    const name = (document.type ?? "").replace("urn:problem:", "");
    if (name === "not-let-in") {
      return new Problem("The service does not know this browser.", "Open the address that course serve printed last.");
    }
    const fault = document.errors?.[0];
    const detail = fault ? `${fault.where.at(-1)}: ${fault.what}` : document.detail;
    const said = detail ? `${document.title}: ${detail}` : document.title;
    return new Problem(said.replace(/[.\s]*$/, "."), NEXT[name] ?? "Try again.");
  }
}

/** A response, or the Problem that it is. */
export async function request(method, path, body, signal, accept = "*/*") {
  const headers = { Accept: accept, Authorization: `Bearer ${key}` };
  if (method === "POST") headers["Idempotency-Key"] = oneTime();
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service does not answer.", "Does course serve still run? Start it and open its address.");
  }
  if (response.ok) return response;
  const document = await response.json().catch(() => ({ title: `The service answered ${response.status}` }));
  throw Problem.of(document);
}

/** A response whose events can be read as they come. It says so: jupyter-server-proxy keeps back all others whole. */
export function stream(path, body, signal) {
  return request("POST", path, body, signal, "text/event-stream");
}

export async function get(path) {
  return (await request("GET", path)).json();
}

/** The server-sent events of a response: name and data. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "" };
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith("event:")) event.name = line.slice(6).trim();
        if (line.startsWith("data:")) event.data += line.slice(5).trim();
      }
      if (event.data) yield [event.name, JSON.parse(event.data)];
    }
  }
}

/** A key for a request that is sent once; crypto.randomUUID is not there on every address. */
function oneTime() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
