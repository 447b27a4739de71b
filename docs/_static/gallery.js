// Narrow the cards of the gallery down: by words, by shape, by what is shared.
document.addEventListener("DOMContentLoaded", () => {
  const filter = document.querySelector(".tl-filter");
  if (!filter) return;
  const cards = [...document.querySelectorAll(".tl-card")];
  const buttons = [...filter.querySelectorAll("button")];
  const search = filter.querySelector("input");
  const count = filter.querySelector(".tl-count");
  filter.hidden = false;

  const chosen = (group) =>
    buttons.filter((b) => b.dataset.group === group && b.getAttribute("aria-pressed") === "true")
      .map((b) => b.dataset.value);

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shapes = chosen("shape"), shares = chosen("shares");
    let shown = 0;
    for (const card of cards) {
      const held = card.dataset.shares.split(" ");
      const fits = words.every((w) => card.dataset.words.includes(w))
        && (!shapes.length || shapes.includes(card.dataset.shape))
        && shares.every((s) => held.includes(s));
      card.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${cards.length} families`;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!on));
      show();
    });
  }
  search.addEventListener("input", show);
  show();
});
