/** The page's own instance: settings from the script tag, state and events in the document. */

import { define } from "./elements.js";
import { Realtime } from "./realtime.js";

/**
 * @returns {Realtime} the same one however often this is loaded
 */
export function start() {
  const { document } = globalThis;
  if (!document) return new Realtime();
  const page = /** @type {any} */ (globalThis);
  // An element with the id "realtime" would be found under that name too.
  if (page.realtime?.subscribe) return page.realtime;
  const tag = /** @type {HTMLElement | null} */ (document.querySelector("script[data-wsrealtime]"));
  const realtime = new Realtime({ ...tag?.dataset });
  page.realtime = realtime;
  realtime.on("*", (name, detail) => {
    if (name === "state") document.documentElement.dataset.realtime = detail;
    document.dispatchEvent(new CustomEvent(`realtime:${name}`, { detail }));
  });
  // A form's own save need not come back as news.
  document.addEventListener("formdata", (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (form.method === "post" && new URL(form.action).origin === location.origin) {
      event.formData.set("_realtime_tab", realtime.tab);
    }
  });
  define(realtime);
  if (tag) realtime.open();
  return realtime;
}
