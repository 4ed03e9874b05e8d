"use strict";
// Embedding maps: the nearest dot's text, one name's dots alone, colour by label or group. Texts are set as text, never as HTML.
const REACH = 40; // how far from a dot, in the drawing's units, a pointer still means it
for (const map of document.querySelectorAll(".map")) {
  const data = JSON.parse(map.querySelector("script").textContent);
  const svg = map.querySelector("svg");
  const ring = map.querySelector("circle");
  const tip = map.querySelector(".tip");
  let only = null;

  const isShown = (i) => only === null || data[only.kind][i] === only.index;
  const hide = () => { tip.hidden = true; ring.setAttribute("cx", -99); };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let nearest = -1, distance = REACH * REACH;
    for (let i = 0; i < data.x.length; i++) {
      const d = (data.x[i] - x) ** 2 + (data.y[i] - y) ** 2;
      if (d < distance && isShown(i)) { nearest = i; distance = d; }
    }
    if (nearest < 0) { hide(); return; }
    ring.setAttribute("cx", data.x[nearest]);
    ring.setAttribute("cy", data.y[nearest]);
    const names = [data.labels[data.label[nearest]], data.groups[data.group[nearest]]].filter(Boolean).join(" · ");
    tip.replaceChildren(Object.assign(document.createElement("b"), { textContent: names }), " " + data.text[nearest]);
    tip.style.bottom = y > svg.viewBox.baseVal.height * 0.75 ? "auto" : "0";
    tip.style.top = y > svg.viewBox.baseVal.height * 0.75 ? "0" : "auto";
    tip.hidden = false;
  });
  svg.addEventListener("pointerleave", hide);

  const press = (buttons, pressed) => buttons.forEach((b) => b.setAttribute("aria-pressed", b === pressed));
  const show = (kind, button) => {
    const same = only !== null && button !== null && only.kind === kind && only.index === Number(button.dataset.index);
    only = button === null || same ? null : { kind, index: Number(button.dataset.index) };
    press(map.querySelectorAll(".legend button"), only === null ? null : button);
    for (const path of svg.querySelectorAll("path")) {
      path.classList.toggle("away", only !== null && Number(path.dataset[only.kind]) !== only.index);
    }
  };
  for (const legend of map.querySelectorAll(".legend")) {
    for (const button of legend.querySelectorAll("button")) {
      button.addEventListener("click", () => show(legend.dataset.kind, button));
    }
  }
  for (const row of map.querySelectorAll(".switch")) {
    row.hidden = false;
    const buttons = row.querySelectorAll("button");
    for (const button of buttons) {
      button.addEventListener("click", () => {
        map.dataset.colour = button.dataset.by;
        press(buttons, button);
        show(button.dataset.by, null);
      });
    }
  }
}
