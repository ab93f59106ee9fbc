// What the parts of the page share: elements, and work that may fail or come too late.

import { Problem } from "./service.js";

let visit = 0; // changes with the user: what comes later for the one before is dropped

export const $ = (id) => document.getElementById(id);
export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Whatever is still awaited is for somebody who is here no more. */
export function leave() {
  visit += 1;
}

/** An element with a text, never with markup. */
export function make(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** The problem in a sentence, and what to do. */
export function show(problem, place) {
  if (problem.name === "AbortError") return;
  const known = problem instanceof Problem;
  if (!known) console.error(problem);
  const sentence = known ? problem.message : "Something went wrong in this page.";
  $(place).replaceChildren(make("p", `${sentence} ${known ? problem.next : "Load it again."}`));
}

/** Do it, and show what goes wrong; nothing of a user who was left meanwhile. */
export async function attempt(place, work) {
  const began = visit;
  $(place).replaceChildren();
  try {
    await work(() => began === visit);
  } catch (problem) {
    if (began === visit) show(problem, place);
  }
}
