/** Says one short sentence at the foot of the page, to eyes and to screen readers. */

const SECONDS = 5;
let timer;

/** @param {string} text @param {{urgent?: boolean}} [options] */
export function say(text, { urgent = false } = {}) {
  const line = document.querySelector("[data-status-line]");
  line.textContent = text;
  line.classList.toggle("urgent", urgent);
  line.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => line.classList.remove("shown"), SECONDS * 1000);
}
