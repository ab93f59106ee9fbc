// What was said in a conversation, with the passages that answers rest on.

import { $, attempt, make } from "./parts.js";
import { get } from "./service.js";

export function addMessage(who, text) {
  const article = make("article", "", who === "You" ? "asked" : "answered");
  article.append(make("h3", who), make("p", text, "text"));
  $("thread").append(article);
  return article;
}

export function finish(article, { status, sources }) {
  if (status === "aborted") article.append(make("p", "This answer is not whole.", "wrong"));
  if (!sources.length) return;
  article.append(make("h4", "Sources"), sourceList(sources));
}

function sourceList(sources) {
  const list = make("ul", "", "sources");
  for (const source of sources) {
    if (typeof source === "string") {
      list.append(make("li", source)); // of a seeded answer, which names documents and no passages
      continue;
    }
    const item = make("li");
    const button = make("button", `[${source.number}] ${source.title}`, "plain");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    const passage = make("blockquote");
    passage.hidden = true;
    button.addEventListener("click", () => toggle(button, passage, source));
    item.append(button, passage);
    list.append(item);
  }
  return list;
}

function toggle(button, passage, source) {
  const opens = passage.hidden;
  button.setAttribute("aria-expanded", String(opens));
  passage.hidden = !opens;
  if (!opens || passage.firstChild) return;
  attempt("ask-problem", async () => {
    const { content } = await get(`documents/${source.document_id}/passages/${source.chunk_index}`);
    passage.replaceChildren(...marked(content, source.quotation));
  }).then(() => passage.firstChild || (passage.hidden = true, button.setAttribute("aria-expanded", "false")));
}

function marked(content, quotation) {
  const at = quotation ? content.indexOf(quotation) : -1;
  if (at < 0) return [document.createTextNode(content)];
  return [content.slice(0, at), make("mark", quotation), content.slice(at + quotation.length)];
}
