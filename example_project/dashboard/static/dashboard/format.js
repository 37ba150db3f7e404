/** How the dashboard writes amounts and times; `money` as the template filter of that name. */

const amount = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const time = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });

/** @param {string | number} value */
export const money = (value) => `€${amount.format(Number(value))}`;

/** Sums decimal strings exactly, in cents. @param {string[]} values */
export const sum = (values) =>
  values.reduce((cents, value) => cents + Math.round(Number(value) * 100), 0) / 100;

/** @param {number} value in percent */
export const percent = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)} %`;

/** @param {string} iso */
export const clock = (iso) => time.format(new Date(iso));
