// The theme's buttons that unfold the list of pages have no name for those who hear the page.
for (const button of document.querySelectorAll("summary:has(> .toctree-toggle)")) {
  const page = button.closest("li").querySelector("a");
  button.setAttribute("aria-label", `Pages below ${page.textContent.trim()}`);
}

// Paper is light: a browser leaves out dark grounds, and pale letters would be left.
let shown = "";
addEventListener("beforeprint", () => {
  shown = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
addEventListener("afterprint", () => { document.documentElement.dataset.theme = shown; });
