/** Keeps the table of open orders and its totals equal to the rows of a live collection. */

import { money, sum } from "./format.js";

const STATUS_NAMES = { new: "New", preparing: "Preparing", ready: "Ready", delivered: "Delivered" };

export class OrderTable {
  /** @param {HTMLElement} panel with the table body, the row template and the totals */
  constructor(panel) {
    this.panel = panel;
    this.body = panel.querySelector("tbody");
    this.blank = panel.querySelector("template");
  }

  /** Makes the table show exactly these rows; what differs from before is marked for a moment. */
  show(rows) {
    const seen = new Set(rows.map((row) => String(row.id)));
    for (const line of [...this.body.rows]) {
      if (!seen.has(line.dataset.pk)) line.remove();
    }
    const sorted = [...rows].sort((one, other) => other.number - one.number);
    sorted.forEach((row, place) => this.#place(row, place));
    this.panel.querySelector("[data-empty]").hidden = rows.length > 0;
    this.#total(rows);
  }

  #place(row, place) {
    let line = this.body.querySelector(`[data-pk="${row.id}"]`);
    if (!line) {
      line = this.#create(row);
      this.#mark(line, "came");
    } else if (line.dataset.updated && line.dataset.updated !== row.updated) {
      this.#mark(line, "changed");
    }
    this.#fill(line, row);
    const there = this.body.rows[place];
    if (there !== line) this.body.insertBefore(line, there ?? null);
  }

  #create(row) {
    const line = this.blank.content.firstElementChild.cloneNode(true);
    line.dataset.pk = row.id;
    line.querySelector("a").href = this.#address(line.querySelector("a").getAttribute("href"), row);
    for (const form of line.querySelectorAll("form")) {
      form.action = this.#address(form.getAttribute("action"), row);
    }
    return line;
  }

  /** The blank row's addresses are those of order 0. */
  #address(blank, row) {
    return blank.replace("/orders/0/", `/orders/${row.id}/`);
  }

  #fill(line, row) {
    line.dataset.status = row.status;
    line.dataset.updated = row.updated;
    const texts = {
      number: String(row.number),
      customer: row.customer__name,
      note: row.note,
      status: STATUS_NAMES[row.status] ?? row.status,
      total: money(row.total),
    };
    for (const [name, text] of Object.entries(texts)) {
      const cell = line.querySelector(`[data-show="${name}"]`);
      if (cell.textContent !== text) cell.textContent = text;
    }
  }

  #mark(line, name) {
    line.classList.remove("came", "changed");
    void line.offsetWidth; // restarts the animation of a row that changes twice
    line.classList.add(name);
  }

  #total(rows) {
    const count = (...states) => rows.filter((row) => states.includes(row.status)).length;
    const totals = {
      count: String(rows.length),
      waiting: String(count("new", "preparing")),
      ready: String(count("ready")),
      value: money(sum(rows.map((row) => row.total))),
    };
    for (const [name, text] of Object.entries(totals)) {
      const output = document.querySelector(`[data-total="${name}"]`);
      if (output.textContent !== text) output.textContent = text;
    }
  }
}
