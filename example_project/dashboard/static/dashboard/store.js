/** The page of one store: live orders, live prices, who else is here, and buttons that call actions. */

import { members } from "../front/people.js";
import { say } from "../front/status.js";
import { Chart, drawLine, newest } from "./chart.js";
import { OrderTable } from "./orders.js";

const rt = window.realtime;

function followOrders() {
  const panel = document.querySelector("[data-orders-topic]");
  const topic = panel.dataset.ordersTopic;
  const table = new OrderTable(panel);
  const orders = rt.collection(topic);
  const show = () => table.show([...orders.values()]);
  orders.on("change", show);
  orders.ready.then(show, (error) => say(error.message, { urgent: true }));

  const subscription = rt.subscribe(topic);
  subscription.on("flash", ({ text }) => say(text));
  members(subscription, document.querySelector("[data-members]"));

  panel.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-action]");
    if (!form || rt.state !== "open") return; // offline, the form posts as it would without a script
    event.preventDefault();
    const button = form.querySelector("button");
    const line = form.closest("tr");
    button.disabled = true;
    try {
      await subscription.call(form.dataset.action, { order_id: Number(line.dataset.pk) });
    } catch (error) {
      say(error.message, { urgent: true });
    } finally {
      button.disabled = false;
    }
  });
}

function followPrices() {
  const figure = document.querySelector("[data-chart]");
  const chart = new Chart(figure);
  const lines = [...document.querySelectorAll("a[data-ticks-topic]")];
  const prices = new Map(lines.map((line) => [line, rt.collection(line.dataset.ticksTopic)]));
  let chosen = lines.find((line) => line.getAttribute("aria-current") === "true");

  const draw = (line) => {
    const ticks = newest(prices.get(line));
    drawLine(line, ticks);
    if (line === chosen) chart.draw(line.dataset.name, ticks);
  };
  for (const line of lines) {
    prices.get(line).on("change", () => draw(line));
    line.addEventListener("click", (event) => {
      event.preventDefault();
      chosen.removeAttribute("aria-current");
      line.setAttribute("aria-current", "true");
      chosen = line;
      draw(line);
    });
  }
}

followOrders();
followPrices();
