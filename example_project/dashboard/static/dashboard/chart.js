/** Draws the prices of one symbol into the SVG that the server has drawn first. */

import { clock, money, percent } from "./format.js";

const WIDTH = 600;
const HEIGHT = 200;
const POINTS = 120;

/** @typedef {{price: number, time: string}} Tick */

/** @param {Tick[]} ticks */
export function measure(ticks) {
  const prices = ticks.map((tick) => tick.price);
  const low = Math.min(...prices);
  const high = Math.max(...prices);
  const change = prices.length ? ((prices[prices.length - 1] - prices[0]) / prices[0]) * 100 : 0;
  return { low, high, last: prices[prices.length - 1], change };
}

/** The newest ticks of a collection, oldest first. @returns {Tick[]} */
export function newest(collection) {
  return [...collection]
    .sort(([one], [other]) => one - other)
    .slice(-POINTS)
    .map(([, { price, time }]) => ({ price: Number(price), time }));
}

/** @param {Tick[]} ticks */
function pointsOf(ticks, { low, high }) {
  const step = WIDTH / Math.max(ticks.length - 1, 1);
  const spread = high - low || 1;
  return ticks.map(({ price }, n) => [n * step, HEIGHT - ((price - low) / spread) * HEIGHT]);
}

const spell = (points) => points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

function direct(element, change) {
  element.dataset.direction = change > 0 ? "up" : change < 0 ? "down" : "flat";
}

function write(root, name, text) {
  const element = root.querySelector(`[data-show="${name}"]`);
  if (element && element.textContent !== text) element.textContent = text;
}

/** One line of the watch list: price, change and a sparkline. */
export function drawLine(line, ticks) {
  if (!ticks.length) return;
  const measured = measure(ticks);
  direct(line, measured.change);
  write(line, "price", money(measured.last));
  write(line, "change", percent(measured.change));
  line.querySelector("polyline").setAttribute("points", spell(pointsOf(ticks, measured)));
}

/** The big chart, with a crosshair that follows the pointer. */
export class Chart {
  #ticks = [];
  #points = [];
  #pointer = null;

  constructor(figure) {
    this.figure = figure;
    this.plot = figure.querySelector(".plot");
    this.plot.addEventListener("pointermove", (event) => this.#point(event.clientX));
    this.plot.addEventListener("pointerdown", (event) => this.#point(event.clientX));
    this.plot.addEventListener("pointerleave", () => this.#point(null));
  }

  draw(name, ticks) {
    write(this.figure, "name", name);
    if (!ticks.length) return;
    const measured = measure(ticks);
    this.#ticks = ticks;
    this.#points = pointsOf(ticks, measured);
    const line = spell(this.#points);
    direct(this.figure, measured.change);
    write(this.figure, "price", money(measured.last));
    write(this.figure, "change", percent(measured.change));
    write(this.figure, "high", money(measured.high));
    write(this.figure, "low", money(measured.low));
    write(this.figure, "from", clock(ticks[0].time));
    write(this.figure, "to", clock(ticks[ticks.length - 1].time));
    this.figure.querySelector("polyline").setAttribute("points", line);
    this.figure.querySelector("polygon").setAttribute("points", `0,${HEIGHT} ${line} ${WIDTH},${HEIGHT}`);
    this.#place(this.figure.querySelector(".dot"), this.#points[this.#points.length - 1]);
    this.#crosshair();
  }

  #place(element, [x, y]) {
    element.style.setProperty("--x", String(x / WIDTH));
    element.style.setProperty("--y", String(y / HEIGHT));
    element.hidden = false;
  }

  #point(clientX) {
    this.#pointer = clientX;
    this.#crosshair();
  }

  #crosshair() {
    const hair = this.figure.querySelector(".hair");
    hair.hidden = this.#pointer === null || !this.#points.length;
    if (hair.hidden) return;
    const { left, width } = this.plot.getBoundingClientRect();
    const share = Math.min(Math.max((this.#pointer - left) / width, 0), 1);
    const index = Math.round(share * (this.#points.length - 1));
    this.#place(hair, this.#points[index]);
    hair.dataset.side = share > 0.6 ? "left" : "right";
    const { price, time } = this.#ticks[index];
    hair.querySelector("output").textContent = `${money(price)} · ${clock(time)}`;
  }
}
