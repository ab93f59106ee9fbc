// The theme's buttons that unfold the list of pages have no name for those who hear the page.
for (const button of document.querySelectorAll("summary:has(> .toctree-toggle)")) {
  const page = button.closest("li").querySelector("a");
  button.setAttribute("aria-label", `Pages below ${page.textContent.trim()}`);
}
