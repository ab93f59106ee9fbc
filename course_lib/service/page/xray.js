// The X-ray: a picture of lanes over time, and tables that say the same.

import { make } from "./parts.js";

const SVG = "http://www.w3.org/2000/svg";
const LANE = 34;
const BAR = 14;
const SHORT = 110;

/** Milliseconds to be read: one decimal where it says something, "…" for what has not come. */
function ms(value) {
  if (value === null) return "…";
  return value > 0 && value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

/** What is drawn: for each lane its name, and spans with what they are. */
export function lanesOf(xray) {
  const now = endOf(xray);
  const span = (what, from, to, look) => ({ what, from, to: to ?? now, look });
  const statements = xray.statements.filter((statement) => !statement.is_control);
  const sent = (s) => span(`statement of ${s.issued_by ?? "SQLAlchemy"}`, s.began, s.began + (s.took ?? 0), "statement");
  const lanes = [
    ["the request", [span("the request", 0, now, "request")]],
    ["statements", statements.map(sent)],
    ["connection held", xray.holds.map((h) => span("connection held", h.taken, h.given_back, "hold"))],
    ["model, pale until its first byte", xray.calls.flatMap((call) => callSpans(call, span))],
    ["waits for a connection", xray.waits.map((w) => span("waits for a connection", w.began, w.ended, "wait"))],
    ["waits for a lock", xray.locks.map((lock) => span("waits for a lock", lock.began, lock.seen, "wait"))],
  ];
  return lanes.filter(([, spans]) => spans.length);
}

/** When it was over, or the last that is known of a request under way. */
function endOf(xray) {
  const known = [...xray.statements.map((s) => s.began), ...xray.holds.map((h) => h.taken), ...xray.calls.map((c) => c.asked)];
  return xray.took ?? Math.max(1, ...known);
}

function callSpans(call, span) {
  const first = call.first_byte ?? call.ended;
  const spans = [span(`model asked for ${call.what}`, call.asked, first, "asked")];
  if (call.ended !== first) spans.push(span(`model answers ${call.what}`, first, call.ended, "answers"));
  return spans;
}

/** One sentence on what matters: how long a connection was held, and whether the model was waited for meanwhile. */
export function summaryOf(xray) {
  const statements = xray.statements.filter((statement) => !statement.is_control).length;
  const holds = xray.holds.map((hold) => [hold.taken, hold.given_back ?? endOf(xray)]);
  const calls = xray.calls.map((call) => [call.asked, call.ended ?? endOf(xray)]);
  const both = holds.flatMap((hold) => calls.map((call) => shared(hold, call))).reduce((sum, part) => sum + part, 0);
  const held = holds.reduce((sum, [from, to]) => sum + to - from, 0);
  const said = [
    `${xray.method} ${xray.route}, ${xray.status ? `status ${xray.status}` : "no response"}, ${ms(xray.took)} ms.`,
    `${statements} ${statements === 1 ? "statement" : "statements"}; a connection was held for ${ms(held)} ms.`,
  ];
  if (calls.length) said.push(`Of these, ${ms(both)} ms were spent waiting for the model.`);
  if (xray.locks.length) said.push("It waited for a lock of another session.");
  return said.join(" ");
}

function shared([from, to], [began, ended]) {
  return Math.max(0, Math.min(to, ended) - Math.max(from, began));
}

export function draw(place, xray) {
  const lanes = lanesOf(xray);
  const width = Math.max(260, place.clientWidth);
  const height = lanes.length * LANE + 24;
  const across = (value) => (value / endOf(xray)) * (width - 2) + 1;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  svg.setAttribute("aria-label", `The request as lanes over time. ${summaryOf(xray)} The table below says the same.`);
  for (const at of ticks(endOf(xray), width)) {
    svg.append(element("line", { x1: across(at), x2: across(at), y1: 0, y2: height - 18, class: "tick" }));
    const anchor = at === 0 ? "start" : "middle";
    svg.append(element("text", { x: across(at), y: height - 4, class: "at", "text-anchor": anchor }, `${ms(at)} ms`));
  }
  lanes.forEach(([name, spans], row) => {
    svg.append(element("text", { x: 1, y: row * LANE + 12 }, name));
    for (const { what, from, to, look } of spans) {
      const size = { x: across(from), width: Math.max(2, across(to) - across(from)), y: row * LANE + 16, height: BAR };
      const bar = element("rect", { ...size, class: look });
      bar.append(element("title", {}, `${what}: ${ms(from)} to ${ms(to)} ms`));
      svg.append(bar);
    }
  });
  place.replaceChildren(svg);
}

function ticks(most, width) {
  const wanted = most / Math.max(2, Math.floor(width / 90));
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= wanted);
  return Array.from({ length: Math.floor((most * 0.94) / step) + 1 }, (_, number) => number * step);
}

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.textContent = text;
  return made;
}

export function spanRows(xray) {
  return lanesOf(xray).flatMap(([name, spans]) =>
    name === "statements" ? [] : spans.map(({ what, from, to }) => cells(what, ms(from), ms(to))));
}

export function statementRows(xray) {
  return xray.statements.map((statement) => {
    const rows = statement.rows === null ? "" : statement.rows.toLocaleString("en");
    const took = statement.is_control ? "" : ms(statement.took);
    const row = cells(ms(statement.began), took, rows, what(statement));
    row.classList.toggle("control", statement.is_control);
    return row;
  });
}

function what(statement) {
  const by = make("b", statement.issued_by ?? "");
  const error = make("em", statement.error ? ` ended with ${statement.error}` : "");
  const parts = make("div");
  parts.append(by, error, sql(statement.sql));
  return parts;
}

function sql(text) {
  const whole = make("code", text);
  if (text.length <= SHORT * 1.3) return whole;
  const folded = make("details");
  const begin = make("summary");
  begin.append(make("code", `${text.slice(0, SHORT)} …`));
  folded.append(begin, whole);
  return folded;
}

function cells(...contents) {
  const row = make("tr");
  for (const content of contents) {
    const cell = make("td");
    cell.append(content);
    row.append(cell);
  }
  return row;
}
