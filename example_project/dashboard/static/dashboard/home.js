/** The front page: the prices of one symbol, for everyone who passes by. */

import { Chart, newest } from "./chart.js";

const figure = document.querySelector("[data-chart]");
const chart = new Chart(figure);
const prices = window.realtime.collection(figure.dataset.ticksTopic);
prices.on("change", () => chart.draw(figure.dataset.name, newest(prices)));
