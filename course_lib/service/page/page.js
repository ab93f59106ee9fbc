// The page: who asks, their documents, a conversation, and the X-ray of what was sent.

import { $, attempt, leave, make, pause, show } from "./parts.js";
import { Problem, events, get, request, stream, use } from "./service.js";
import { addMessage, finish } from "./thread.js";
import { draw, spanRows, statementRows, summaryOf } from "./xray.js";

const LOOK_EVERY = 500; // milliseconds between looks at a job
const PATIENCE = 40; // looks at an X-ray whose request is not quite over
const JOB = {
  queued: "waits to be read.",
  running: "is being read.",
  done: "is ready. You can ask about it.",
};
const STATE = { uploaded: "waits to be read", processing: "is being read" };

let people = [];
let asking = null; // of the answer that is being written
let sending = false; // of a document
let shown = null; // the X-ray on the page

// who

async function begin() {
  people = await get("people.json");
  $("person").replaceChildren(...people.map((person, place) => new Option(person.name, place)));
  $("person").addEventListener("change", become);
  become();
}

function become() {
  const person = people[$("person").value];
  leave();
  asking?.abort();
  use(person.key);
  $("about").textContent = person.about;
  $("example").textContent = `For example: ${person.example}`;
  for (const place of ["page-problem", "add-problem", "ask-problem", "job", "said", "documents", "thread"]) {
    $(place).replaceChildren();
  }
  $("conversation").replaceChildren(new Option("A new one", ""));
  $("request").replaceChildren(new Option("None yet", ""));
  $("seen").hidden = true;
  $("summary").textContent = "Ask something. What the request did stands here then.";
  attempt("page-problem", async (current) => {
    await listDocuments(current);
    await listConversations(current, "");
  });
}

// documents

async function listDocuments(current, cursor = "") {
  const page = await get(`documents?limit=50${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
  if (!current()) return;
  const items = page.items.map(documentItem);
  if (cursor) $("documents").append(...items);
  else $("documents").replaceChildren(...(items.length ? items : [make("li", "None yet. Add one.", "quiet")]));
  $("more").hidden = !page.next;
  $("more").onclick = () => attempt("page-problem", (still) => listDocuments(still, page.next));
}

function documentItem(found) {
  const item = make("li", found.title);
  if (STATE[found.status]) item.append(make("span", ` ${STATE[found.status]}`, "quiet"));
  if (found.error) item.append(make("span", ` ${found.error} Add another version of it.`, "wrong"));
  return item;
}

async function addDocument(event) {
  event.preventDefault();
  if (sending) return;
  sending = true;
  await attempt("add-problem", async (current) => {
    const response = await sendDocument();
    const { document: added, job } = await response.json();
    if (!current()) return;
    $("add").reset();
    look(response.headers.get("X-Request-Id"));
    await listDocuments(current);
    follow(job, added.title, current).catch((problem) => current() && show(problem, "add-problem"));
  });
  sending = false;
}

async function sendDocument() {
  const [title, text, file] = [$("title").value.trim(), $("text").value, $("file").files[0]];
  if (file) {
    const form = new FormData();
    form.append("file", file);
    if (title) form.append("title", title);
    return request("POST", "documents/files", form);
  }
  if (!title || !text.trim()) throw new Problem("A document has a title and a text.", "Fill in both, or choose a file.");
  return request("POST", "documents", { title, text });
}

async function follow(job, title, current) {
  while (current() && JOB[job.status]) {
    $("job").textContent = `“${title}” ${JOB[job.status]}`;
    if (job.status === "done") break;
    await pause(LOOK_EVERY);
    job = await get(`jobs/${job.id}`);
  }
  if (!current()) return;
  if (job.status === "failed") $("job").textContent = `${job.error} Add another version of it.`;
  await listDocuments(current);
}

// the conversation

/** With the ``chosen`` one selected; undefined is the latest, in which an answer was broken off. */
async function listConversations(current, chosen) {
  const { items } = await get("conversations?limit=50");
  if (!current()) return;
  const options = items.map((item) => new Option(item.title, item.id));
  $("conversation").replaceChildren(new Option("A new one", ""), ...options);
  $("conversation").value = chosen ?? items[0]?.id ?? "";
}

function openConversation() {
  asking?.abort();
  $("thread").replaceChildren();
  const chosen = $("conversation").value;
  if (!chosen) return;
  attempt("ask-problem", async (current) => {
    const { messages } = await get(`conversations/${chosen}`);
    if (!current() || $("conversation").value !== chosen) return;
    for (const message of messages) {
      const said = addMessage(message.role === "user" ? "You" : "Answer", message.content);
      if (message.role !== "user") finish(said, message);
    }
  });
}

// a question

async function ask(event) {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || asking) return;
  asking = new AbortController();
  busy(true);
  const after = [];
  let here = () => false;
  await attempt("ask-problem", (current) => answer(question, asking.signal, (here = current), after));
  asking = null;
  busy(false);
  for (const work of after) if (here()) await attempt("page-problem", work);
}

function busy(is) {
  if (document.activeElement === $("stop")) $("question").focus(); // what is hidden cannot keep the focus
  $("send").setAttribute("aria-disabled", is); // a disabled button would lose the focus
  $("send").textContent = is ? "Asking …" : "Ask";
  $("stop").hidden = !is;
  if (is) $("said").textContent = "The question is being answered.";
}

/** Ask, and show the answer as it comes. What is to be done when it has ended goes to ``after``. */
async function answer(question, signal, current, after) {
  const from = $("conversation").value;
  const response = await stream("questions/stream", { question, conversation_id: from || null }, signal);
  if (!current()) return;
  addMessage("You", question);
  const article = addMessage("Answer", "");
  $("question").value = "";
  let done;
  after.push(() => look(response.headers.get("X-Request-Id")), (still) => {
    const chosen = $("conversation").value; // another one may have been opened meanwhile
    return listConversations(still, chosen === from ? from || done?.conversation_id : chosen);
  });
  try {
    done = await listen(response, article.querySelector(".text"));
    finish(article, done);
    $("said").textContent = `Answer: ${done.text} Sources: ${done.sources.length}.`;
  } catch (problem) {
    const said = signal.aborted ? "Stopped. What was said is kept." : "The answer broke off.";
    article.append(make("p", said, "wrong"));
    $("said").textContent = said;
    if (problem instanceof Problem) throw problem;
  }
}

async function listen(response, place) {
  for await (const [name, data] of events(response)) {
    if (name === "token") place.append(data.text);
    if (name === "error") throw Problem.of(data);
    if (name === "done") return data;
  }
  throw new Error("the stream ended without an end");
}

// the X-ray

function look(id) {
  return attempt("xray-problem", async (current) => {
    let seen = await get(`xray/${id}`);
    for (let looks = 0; seen.took === null && looks < PATIENCE && current(); looks += 1) {
      await pause(100);
      seen = await get(`xray/${id}`);
    }
    const { items } = await get("xray");
    if (!current()) return;
    const said = ({ method, route, took }) => `${method} ${route}, ${took === null ? "under way" : `${Math.round(took)} ms`}`;
    $("request").replaceChildren(...items.map((item) => new Option(said(item), item.id)));
    $("request").value = id;
    render(seen);
  });
}

function render(seen) {
  shown = seen;
  $("seen").hidden = false;
  $("summary").textContent = summaryOf(seen);
  $("spans").replaceChildren(...spanRows(seen));
  $("statements").replaceChildren(...statementRows(seen));
  $("explain").hidden = !seen.has_search;
  $("plan").hidden = true;
  draw($("picture"), seen);
}

function explain() {
  attempt("xray-problem", async () => {
    const asked = shown.id;
    const { text } = await get(`xray/${asked}/plan`);
    if (shown.id !== asked) return;
    $("plan").textContent = text;
    $("plan").hidden = false;
    $("plan").focus();
  });
}

$("add").addEventListener("submit", addDocument);
$("ask").addEventListener("submit", ask);
$("stop").addEventListener("click", () => asking?.abort());
$("conversation").addEventListener("change", openConversation);
$("request").addEventListener("change", () => $("request").value && look($("request").value));
$("explain").addEventListener("click", explain);
$("example").addEventListener("click", () => {
  $("question").value = people[$("person").value].example;
  $("question").focus();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
addEventListener("resize", () => shown && !$("seen").hidden && draw($("picture"), shown));
attempt("page-problem", begin);
