// The board of a class: drawn anew with each event. Names are foreign text and only ever become text.

const $ = (id) => document.getElementById(id);
const WORDS = { right: "right", tried: "tried", stuck: "stuck", seen: "looked at" };

const MOST = 8; // who are stuck that have a line; the grid shows all

let board = null;
let hidden = false;

/** An element with what it holds: elements, or a text that is never markup. */
function make(name, className = "", ...contents) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...contents);
  return made;
}

function number(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

function nameOf(index) {
  return hidden ? `Learner ${index + 1}` : board.learners[index].name;
}

/** Names may be written from right to left; what stands beside them stays where it is. */
function nameElement(index) {
  return make("bdi", "", nameOf(index));
}

function sign({ look, tries }) {
  const count = tries < 100 ? tries : "99+";
  return { right: "✓", tried: `${count}`, stuck: `${count}!`, seen: "·" }[look] ?? "";
}

function words({ look, tries }) {
  if (!look) return "nothing yet";
  return tries && look !== "right" ? `${WORDS[look]}, ${number(tries, "try", "tries")}` : WORDS[look];
}

function head(name, scope, ...contents) {
  const made = make("th", name, ...contents);
  made.scope = scope;
  return made;
}

/** A lesson, or a level of drills. */
function groupOf(exercise) {
  const [lesson, number] = exercise.id.split(".");
  return number ? `Lesson ${lesson}` : `Drills ${lesson[0]}`;
}

/** Whether another group begins here. */
function begins(index) {
  return index > 0 && groupOf(board.exercises[index - 1]) !== groupOf(board.exercises[index]);
}

function groupHeads() {
  const starts = board.exercises.map((_, index) => index).filter((index) => !index || begins(index));
  return starts.map((start, place) => {
    const made = head(begins(start) ? "begins" : "", "colgroup", groupOf(board.exercises[start]));
    made.colSpan = (starts[place + 1] ?? board.exercises.length) - start;
    return made;
  });
}

function drawHeads() {
  const exercises = board.exercises.map((exercise, index) => {
    const made = head(begins(index) ? "begins" : "", "col", exercise.id.replace(/^(\d+\.|[JMS])/, ""));
    made.title = `${exercise.id} · ${exercise.title}`;
    return made;
  });
  const quiet = head("minutes", "col", "min");
  quiet.title = "Minutes since the latest check";
  const above = make("tr", "groups", make("td"), ...groupHeads(), make("td"));
  $("heads").replaceChildren(above, make("tr", "", head("", "col", "Learner"), ...exercises, quiet));
  const sums = board.exercises.map((exercise, index) => make("td", begins(index) ? "begins" : "", exercise.right || ""));
  $("sums").replaceChildren(make("tr", "", head("", "row", "right"), ...sums, make("td")));
}

function drawLearner(learner, index) {
  const row = make("tr", "", head("", "row", nameElement(index)));
  if (!learner.shown) {
    const wish = make("td", "quiet wish", "not on the board, as they wish");
    wish.colSpan = board.exercises.length + 1;
    row.append(wish);
    return row;
  }
  learner.cells.forEach((cell, column) => {
    const shown = make("span", "", sign(cell));
    shown.ariaHidden = "true";
    const made = make("td", `${cell.look ?? "none"}${begins(column) ? " begins" : ""}`, shown);
    made.append(make("span", "unseen", words(cell)));
    made.title = `${nameOf(index)}, ${board.exercises[column].id}: ${words(cell)}`;
    row.append(made);
  });
  row.append(make("td", "minutes quiet", learner.quiet === null ? "" : `${learner.quiet}`));
  return row;
}

function drawStuck(one) {
  const what = ` ${one.id} · ${number(one.tries, "try", "tries")}, ${one.minutes} min`;
  const made = make("li", "line", make("b", "", nameElement(one.learner)), what, make("span", "quiet", ` · ${one.mistake}`));
  made.title = made.textContent;
  return made;
}

function drawMistake(one) {
  const many = make("b", "many", `${one.learners}×`);
  const title = make("h3", "", many, ` ${one.id} · ${one.name}`);
  const seen = one.seen ? [make("p", "quiet", ...code(one.seen))] : [];
  return make("li", "", title, ...seen, make("p", "ask", ...code(one.ask)));
}

/** What stands between backticks is code. */
function code(text) {
  return text.split("`").map((part, index) => (index % 2 ? make("code", "", part) : part));
}

function draw() {
  if (!board) return;
  const right = board.exercises.reduce((sum, exercise) => sum + exercise.right, 0);
  document.title = `Board of ${board.class_name}`;
  $("title").textContent = board.class_name;
  $("sum").textContent = `${number(board.learners.length, "learner", "learners")}, ${right} right`;
  $("trouble").textContent = board.trouble;
  document.body.style.setProperty("--rows", board.learners.length + 3);
  document.body.style.setProperty("--columns", board.exercises.length);
  drawHeads();
  $("learners").replaceChildren(...board.learners.map(drawLearner));
  const more = board.stuck.length - MOST;
  $("stuck").replaceChildren(...board.stuck.slice(0, MOST).map(drawStuck));
  $("more-stuck").textContent = more > 0 ? `and ${more} more` : "";
  $("mistakes").replaceChildren(...board.mistakes.map(drawMistake));
  $("no-stuck").hidden = board.stuck.length > 0;
  $("no-mistakes").hidden = board.mistakes.length > 0;
}

$("names").addEventListener("click", () => {
  hidden = !hidden;
  $("names").ariaPressed = `${hidden}`;
  draw();
});

const events = new EventSource("events");
events.addEventListener("message", (event) => {
  board = JSON.parse(event.data);
  draw();
});
events.addEventListener("error", () => {
  const gone = events.readyState === EventSource.CLOSED;
  $("trouble").textContent = gone
    ? "This browser is not known. Open the address that was printed last where the board was started."
    : "The board does not answer. Does it still run where it was started?";
});
