// The theme's search button shows other words than it says aloud; say what it shows.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field")) button.removeAttribute("aria-label");
});

// A figure that is wider than a phone scrolls; whoever has no mouse reaches it by Tab.
const reachFigures = () => {
  for (const figure of document.querySelectorAll(".cell_output:has(> img)")) {
    if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
    else figure.removeAttribute("tabindex");
  }
};
window.addEventListener("load", reachFigures);
window.addEventListener("resize", reachFigures);
